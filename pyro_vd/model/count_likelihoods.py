"""Likelihoods of counts, the whole numbers from 0 on. The network's output is the logarithm of the mean."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vd.model.positive_number import describe_number, known_or_learned, read_number

__all__ = ["NegativeBinomial", "Poisson"]


def Poisson(log_rate: Tensor) -> dist.Poisson:
    """Distribution of counts, of the shape of ``log_rate``; mean and variance are both exp(log_rate)."""
    return dist.Poisson(log_rate.exp())


class NegativeBinomial(nn.Module):
    """Negative binomial distribution of counts: their variance is larger than their mean.

    The network's output is the logarithm of the mean. The variance is ``mean + mean**2 / total_count``, so a large
    total_count gives a Poisson distribution.

    Args:
        total_count: finite and above 0, PyTorch's name of this number; it is also called the inverse dispersion. If it
            is learned, this is its first value, 1 by default.
        learn_total_count: whether total_count is learned with the network. The module then has the parameter
            ``log_total_count``, 0-dim. It is a point estimate and has no prior.

    Raises:
        UserError: for another total_count, and without one unless it is learned.

    Example:
        >>> target = NegativeBinomial(total_count=5.0)(torch.tensor([10.0]).log())
        >>> round(target.mean.item(), 3), round(target.variance.item(), 3)
        (10.0, 30.0)
    """

    def __init__(self, total_count: float | None = None, learn_total_count: bool = False):
        super().__init__()
        self.known_total_count, self.log_total_count = known_or_learned(
            "NegativeBinomial", "total_count", total_count, learn_total_count
        )

    @property
    def total_count(self) -> float | Tensor:
        """The number; a 0-dim tensor if it is learned."""
        return read_number(self.known_total_count, self.log_total_count)

    def forward(self, log_mean: Tensor) -> dist.NegativeBinomial:
        """The distribution of counts of the shape of ``log_mean``."""
        total_count = torch.as_tensor(self.total_count, dtype=log_mean.dtype, device=log_mean.device)
        return dist.NegativeBinomial(total_count, logits=log_mean - total_count.log())

    def extra_repr(self) -> str:
        return describe_number("total_count", self.total_count, self.log_total_count is not None)
