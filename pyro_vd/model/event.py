"""to_event and base_distribution: from a distribution over scalars to one over a whole tensor, and back."""

import pyro.distributions as dist
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch.distributions import Distribution, Independent

__all__ = ["base_distribution", "to_event"]


def to_event(distribution: Distribution) -> Distribution:
    """The distribution with all batch dimensions as event dimensions. A PyTorch distribution becomes one of Pyro's."""
    dims = len(distribution.batch_shape)
    is_pyro: bool = isinstance(distribution, TorchDistributionMixin)
    event: Distribution = distribution if is_pyro and not dims else dist.Independent(distribution, dims)
    return event


def base_distribution(distribution: Distribution) -> Distribution:
    """The distribution inside every ``to_event``: the inverse of :func:`to_event`."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution
