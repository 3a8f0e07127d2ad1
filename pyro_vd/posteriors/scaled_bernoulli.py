"""The factor of ordinary (inverted) dropout."""

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

__all__ = ["ScaledBernoulli"]


class ScaledBernoulli(TorchDistribution):
    """0 with probability p, else 1 / (1 - p): mean 1, variance p / (1 - p) (Srivastava et al. 2014, section 10).

    Args:
        p: drop probabilities in [0, 1), any shape. They are fixed: a draw has no gradient in them.

    Example:
        >>> import torch
        >>> ScaledBernoulli(torch.tensor([0.5])).variance
        tensor([1.])
    """

    arg_constraints = {"p": constraints.half_open_interval(0.0, 1.0)}
    support = constraints.real
    has_rsample = True

    def __init__(self, p: Tensor, validate_args: bool | None = None):
        self.p = p
        super().__init__(p.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return torch.ones_like(self.p)

    @property
    def variance(self) -> Tensor:
        return self.p / (1 - self.p)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        retention = 1 - self.p
        return torch.bernoulli(retention.expand(self._extended_shape(sample_shape))) / retention
