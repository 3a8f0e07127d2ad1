"""Between the distribution of one weight and that of a whole tensor of independent weights."""

import pyro.distributions as dist
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch.distributions import Distribution, Independent

__all__ = ["base_distribution", "to_event"]


def to_event(distribution: Distribution) -> Distribution:
    """One event over all dimensions, and a Pyro distribution where it was one of PyTorch's."""
    dims = len(distribution.batch_shape)
    is_pyro: bool = isinstance(distribution, TorchDistributionMixin)
    event: Distribution = distribution if is_pyro and not dims else dist.Independent(distribution, dims)
    return event


def base_distribution(distribution: Distribution) -> Distribution:
    """The distribution inside every ``to_event``: :func:`to_event` undone."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution
