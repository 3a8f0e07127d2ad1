"""The horseshoe prior on one weight, its scale integrated out."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import HalfCauchy, constraints
from torch.distributions.utils import broadcast_all

__all__ = ["Horseshoe"]

# exp(u) E1(u): a polynomial and a logarithm below u = 1, a rational function above. Abramowitz and Stegun 1964, 5.1.53
# (absolute error below 2e-7) and 5.1.56 (below 5e-8).
SMALL = (-0.57721566, 0.99999193, -0.24991055, 0.05519968, -0.00976004, 0.00107857)
NUMERATOR = (0.2677737343, 8.6347608925, 18.0590169730, 8.5733287401, 1.0)
DENOMINATOR = (3.9584969228, 21.0996530827, 25.6329561486, 9.5733223454, 1.0)
# The density has a pole at w = 0, where the gradient of its logarithm has no mean. It is treated as flat within a
# millionth of tau.
U_MIN = 1e-12


class Horseshoe(TorchDistribution):
    r"""Horseshoe: :math:`w \sim \mathcal N(0, \tau^2 \lambda^2)` with :math:`\lambda \sim C^+(0, 1)` integrated out.

    .. math:: \log p(w) = -\log\tau - \tfrac12 \log 2\pi^3 + u + \log E_1(u), \qquad u = w^2 / 2\tau^2

    It has a pole at 0 and Cauchy tails: small weights shrink, large ones stay (Carvalho, Polson and Scott 2010). It has
    neither mean nor variance. Its KL from a Gaussian has no closed form: use ``MonteCarloKL(Horseshoe(tau))``.

    Args:
        tau: global scale above 0, any shape.

    Raises:
        UserError: for tau <= 0.

    Example:
        >>> Horseshoe(1.0).log_prob(torch.tensor([0.1, 1.0, 10.0]))
        tensor([-0.5056, -2.1439, -5.9951])
    """

    arg_constraints = {"tau": constraints.positive}
    support = constraints.real

    def __init__(self, tau: float | Tensor, validate_args: bool | None = None):
        (self.tau,) = broadcast_all(tau)
        super().__init__(self.tau.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return torch.full_like(self.tau, math.nan)

    @property
    def variance(self) -> Tensor:
        return torch.full_like(self.tau, math.nan)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        scale: Tensor = HalfCauchy(self.tau).sample(sample_shape)
        return scale * torch.randn_like(scale)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        u = 0.5 * (value / self.tau).square()
        return _scaled_exponential_integral(u.clamp(min=U_MIN)).log() - self.tau.log() - 0.5 * math.log(2 * math.pi**3)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Horseshoe:
        new: Horseshoe = self._get_checked_instance(Horseshoe, _instance)
        new.tau = self.tau.expand(batch_shape)
        super(Horseshoe, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new


def _scaled_exponential_integral(u: Tensor) -> Tensor:
    """exp(u) E1(u) for u > 0."""
    low, high = (
        u.clamp(max=1.0),
        u.clamp(min=1.0),
    )  # each branch gets arguments it is valid for: no infinities in the gradient
    small = low.exp() * (_polynomial(SMALL, low) - low.log())
    # Powers of 1/u: u^4 itself would overflow for weights a few hundred million times tau.
    inverse = high.reciprocal()
    large = inverse * _polynomial(NUMERATOR[::-1], inverse) / _polynomial(DENOMINATOR[::-1], inverse)
    return torch.where(u < 1, small, large)


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Horner's scheme; coefficients from the constant up."""
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total
