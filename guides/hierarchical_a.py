"""Hierarchical variational dropout A (Liu et al. 2019): learned noise per input unit, N(0, gamma) prior on it."""

from pyro_vd.guides._input_noise import LearnedInputNoiseGuide
from pyro_vd.priors import EmpiricalBayes

__all__ = ["Guide", "prior"]

prior = EmpiricalBayes


class Guide(LearnedInputNoiseGuide):
    """Type A noise with unbounded alpha; each noise variable has a gamma of its own, optimized out.

    References:
        Variational Bayesian Dropout with a Hierarchical Prior, https://arxiv.org/abs/1811.07533.
    """
