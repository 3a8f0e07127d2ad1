"""Hierarchical variational dropout A (Liu et al. 2019): learned noise per input unit, N(0, gamma) prior on it."""

from pyro_vd.guides._input_noise import LearnedInputNoiseGuide
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.priors import EmpiricalBayes

__all__ = ["Guide", "defaults", "prior"]

prior = EmpiricalBayes
defaults = SchemeDefaults()


class Guide(LearnedInputNoiseGuide):
    """Type A noise with unbounded alpha; each noise variable has a gamma of its own, optimized out.

    References:
        Variational Bayesian Dropout with a Hierarchical Prior, https://arxiv.org/abs/1811.07533.
    """

    defaults = defaults
