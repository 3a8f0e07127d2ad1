"""Sparse variational dropout (Molchanov et al. 2017): per-weight noise, unbounded alpha, log-uniform prior."""

from pyro_vd.guides._gaussian import GaussianGuide
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.priors import LogUniform

__all__ = ["Guide", "defaults", "prior"]

prior = LogUniform
defaults = SchemeDefaults(threshold=3.0, threshold_of="log_alpha", masking=True)


class Guide(GaussianGuide):
    """Weights whose log_alpha passes the threshold (3 in the paper: a dropout rate above 0.95) are pruned.

    References:
        Variational Dropout Sparsifies Deep Neural Networks, https://arxiv.org/abs/1701.05369, sections 4.1-4.4.
    """

    defaults = defaults
