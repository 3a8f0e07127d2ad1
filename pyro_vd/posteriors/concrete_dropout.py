"""The weight posterior of concrete dropout."""

from __future__ import annotations

from torch import Tensor

from pyro_vd.posteriors.input_noise import InputNoise
from pyro_vd.posteriors.scaled_concrete import ScaledConcrete

__all__ = ["ConcreteDropout"]


class ConcreteDropout(InputNoise):
    """Input noise whose factors are relaxed Bernoulli variables (Gal, Hron, Kendall 2017).

    Of all input noise, this alone has a KL to a Normal prior over weights: a bound, up to a constant, in which every
    column of weights is a mixture of two narrow Gaussians, one of them at 0.

    Args:
        theta: as in :class:`InputNoise`.
        noise: the factors, of batch shape (units,).
        dim: as in :class:`InputNoise`.
    """

    noise: ScaledConcrete

    def __init__(self, theta: Tensor, noise: ScaledConcrete, dim: int = 1):
        super().__init__(theta, noise, dim)
