"""Hierarchical variational dropout (Liu et al. 2019): per-weight noise, N(0, gamma) prior, gamma optimized out."""

from pyro_vd.guides._gaussian import GaussianGuide
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.priors import EmpiricalBayes

__all__ = ["Guide", "defaults", "prior"]

prior = EmpiricalBayes
defaults = SchemeDefaults(threshold=3.0, threshold_of="log_alpha", masking=True)


class Guide(GaussianGuide):
    """The objective is also automatic relevance determination's (Kharitonov et al. 2018): KL = log(1 + 1/alpha) / 2.

    References:
        Variational Bayesian Dropout with a Hierarchical Prior, https://arxiv.org/abs/1811.07533.
        Variational Dropout via Empirical Bayes, https://arxiv.org/abs/1811.00596.
    """

    defaults = defaults
