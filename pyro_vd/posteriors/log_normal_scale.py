"""Log-normal posteriors of the four variables whose root is a horseshoe's scale."""

from typing import NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

__all__ = ["LogNormalParameters", "LogNormalScale"]


class LogNormalParameters(NamedTuple):
    """Mean and log variance of the logarithm, of one shape."""

    mu: Tensor
    log_sigma2: Tensor


class LogNormalScale(TorchDistribution):
    r"""Scales :math:`z_j = \sqrt{s_a s_b \alpha_j \beta_j}`, each of the four log-normal (Louizos et al. 2017, 3.2).

    s_a and s_b belong to the layer: one draw serves all its units, so the scales are correlated. Each z_j alone is
    log-normal.

    Args:
        layer_gamma, layer_inverse: of s_a and s_b, shape (1,).
        unit_gamma, unit_inverse: of alpha and beta, shape (units,).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.positive
    has_rsample = True

    def __init__(
        self,
        layer_gamma: LogNormalParameters,
        layer_inverse: LogNormalParameters,
        unit_gamma: LogNormalParameters,
        unit_inverse: LogNormalParameters,
    ):
        self.layer_gamma, self.layer_inverse = layer_gamma, layer_inverse
        self.unit_gamma, self.unit_inverse = unit_gamma, unit_inverse
        super().__init__(unit_gamma.mu.shape, validate_args=False)

    @property
    def mu(self) -> Tensor:
        """Mean of log z, shape (units,)."""
        return 0.5 * (self.layer_gamma.mu + self.layer_inverse.mu + self.unit_gamma.mu + self.unit_inverse.mu)

    @property
    def sigma2(self) -> Tensor:
        """Variance of log z, shape (units,)."""
        return 0.25 * (_variance(self.layer_gamma, self.layer_inverse) + _variance(self.unit_gamma, self.unit_inverse))

    @property
    def mean(self) -> Tensor:
        return (self.mu + 0.5 * self.sigma2).exp()

    @property
    def variance(self) -> Tensor:
        return self.sigma2.expm1() * (2 * self.mu + self.sigma2).exp()

    @property
    def log_mode(self) -> Tensor:
        """Logarithm of the most likely scale, by which units are pruned, shape (units,)."""
        return self.mu - self.sigma2

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        parts = ((self.layer_gamma, self.layer_inverse), (self.unit_gamma, self.unit_inverse))
        layer, unit = (_half_log(a, b, sample_shape) for a, b in parts)
        return (layer + unit).exp()


def _half_log(a: LogNormalParameters, b: LogNormalParameters, sample_shape: torch.Size) -> Tensor:
    """Draws of (log a + log b) / 2."""
    noise = torch.randn(*sample_shape, *a.mu.shape, dtype=a.mu.dtype, device=a.mu.device)
    return 0.5 * (a.mu + b.mu + _variance(a, b).sqrt() * noise)


def _variance(a: LogNormalParameters, b: LogNormalParameters) -> Tensor:
    """Variance of log a + log b."""
    return a.log_sigma2.exp() + b.log_sigma2.exp()
