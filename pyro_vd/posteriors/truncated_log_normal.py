"""The noise of structured Bayesian pruning: log-normal, truncated to [exp(-20), 1]."""

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_vd.priors.truncated_log_uniform import LOWER, UPPER

__all__ = ["TruncatedLogNormal"]

BOUND_MAX = 1e6  # in scales; see _log_between
QUANTILE_EPS = 1e-5  # their code's; a quantile of exactly 0 or 1 would have an infinite gradient


class TruncatedLogNormal(TorchDistribution):
    r"""Positive factors with log xi ~ N(mu, sigma^2) truncated to [-20, 0] (Neklyudov et al. 2017).

    https://arxiv.org/abs/1705.07283. Moments and KL are computed in float64: units are few, and float32 is not
    precise enough for differences of normal probabilities.

    Args:
        mu: location of log xi, any shape, in [-20, 0] (the authors' code allows up to 5, for densities that rise
            towards 1; here a small sigma does that).
        log_sigma: logarithm of its scale before truncation, same shape.

    Example:
        >>> q = TruncatedLogNormal(torch.zeros(1), torch.full((1,), -5.0))
        >>> q.mean, q.snr > 100
        (tensor([0.9946]), tensor([True]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, mu: Tensor, log_sigma: Tensor):
        self.mu, self.log_sigma = mu, log_sigma
        self._mu, self.sigma = mu.double(), log_sigma.double().exp()
        self.lower, self.upper = (LOWER - self._mu) / self.sigma, (UPPER - self._mu) / self.sigma
        super().__init__(mu.shape, validate_args=False)

    @property
    def log_normalizer(self) -> Tensor:
        """Logarithm of the probability of [-20, 0] before truncation, float64."""
        return self._log_between(0)

    @property
    def mean(self) -> Tensor:
        return self._moment(1).to(self.mu)

    @property
    def variance(self) -> Tensor:
        return self._variance().to(self.mu)

    @property
    def snr(self) -> Tensor:
        """Mean over standard deviation, infinite if that rounds to 0; the paper prunes below 1."""
        return (self._moment(1) / self._variance().sqrt()).to(self.mu)

    @property
    def log_alpha(self) -> Tensor:
        """log(variance / mean^2) = -2 log snr: the paper's threshold is at 0."""
        return -2 * self.snr.log()

    @property
    def inverse_alpha(self) -> Tensor:
        return self.snr.square()

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        # Moments, one per unit, are float64. Draws are many and stay in the dtype of mu: [-20, 0] holds mu, so the
        # probability of the interval is not a small difference of large numbers.
        below, between = (value.to(self.mu) for value in (torch.special.ndtr(self.lower), self.log_normalizer.exp()))
        u = torch.rand(self._extended_shape(sample_shape), dtype=self.mu.dtype, device=self.mu.device)
        z: Tensor = torch.special.ndtri(below + u.clamp(QUANTILE_EPS, 1 - QUANTILE_EPS) * between)
        return (self.mu + self.sigma.to(self.mu) * z).clamp(LOWER, UPPER).exp()

    def _log_between(self, shift: int) -> Tensor:
        """Logarithm of the normal probability between the bounds, both moved down by ``shift`` scales."""
        low, high = self.lower - shift * self.sigma, self.upper - shift * self.sigma
        # Of two probabilities near 1, the complements keep their digits.
        flip = low > 0
        # Far from 0, torch's log_ndtr has a wrong derivative; a bound a million scales away has no effect.
        lower = torch.where(flip, -high, low).clamp(min=-BOUND_MAX)
        upper = torch.where(flip, -low, high).clamp(min=-BOUND_MAX)
        log_upper: Tensor = torch.special.log_ndtr(upper)
        return log_upper + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - log_upper))

    def _moment(self, k: int) -> Tensor:
        """E[xi^k], float64."""
        return (k * self._mu + 0.5 * (k * self.sigma).square() + self._log_between(k) - self.log_normalizer).exp()

    def _variance(self) -> Tensor:
        return (self._moment(2) - self._moment(1).square()).clamp(min=0.0)
