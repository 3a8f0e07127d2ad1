"""Variational dropout A (Kingma et al. 2015): Gaussian dropout of the input units with learned alpha <= 1."""

from pyro_vd.guides._input_noise import LearnedInputNoiseGuide
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.priors import LogUniform

__all__ = ["Guide", "defaults", "prior"]

prior = LogUniform
defaults = SchemeDefaults()


class Guide(LearnedInputNoiseGuide):
    """Correlated weight noise: one variable per input unit, shared by the weights that leave it.

    The log-uniform prior is on the noise variables, where the KL is finite; on the weights it would be infinite (Hron
    et al. 2018). The paper's A2 is this scheme with a KL weight of 1/3.

    References:
        Variational Dropout and the Local Reparameterization Trick, https://arxiv.org/abs/1506.02557, section 3.2.
    """

    defaults = defaults

    log_alpha_max = 0.0
