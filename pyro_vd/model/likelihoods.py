"""Likelihoods: callables from the network's output to the distribution of the targets."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.errors import UserError

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Likelihood"]

Likelihood = Callable[[Tensor], Distribution]


def Categorical(logits: Tensor) -> dist.Categorical:
    """Distribution of class labels (...), int64, from logits (..., classes)."""
    return dist.Categorical(logits=logits)


def Bernoulli(logits: Tensor) -> dist.Bernoulli:
    """Distribution of binary targets, floating point, from logits of the same shape."""
    return dist.Bernoulli(logits=logits)


class Gaussian:
    """Normal distribution of real targets around the output, with a known standard deviation.

    Args:
        scale: standard deviation, finite and above 0, in the units of the targets.

    Raises:
        UserError: for another scale.

    Example:
        >>> import torch
        >>> Gaussian(0.5)(torch.zeros(3)).log_prob(torch.zeros(3))
        tensor([-0.2258, -0.2258, -0.2258])
    """

    def __init__(self, scale: float):
        if not 0 < scale < float("inf"):
            raise UserError(f"Gaussian(scale={scale}): the standard deviation must be a finite number above 0")
        self.scale = scale

    def __call__(self, mean: Tensor) -> dist.Normal:
        return dist.Normal(mean, self.scale)


# If one of these classes is the likelihood, the network's output would be its first argument, which is a probability
# and not a logit.
BY_LOGITS: dict[object, Likelihood] = {
    dist.Categorical: Categorical,
    torch.distributions.Categorical: Categorical,
    dist.Bernoulli: Bernoulli,
    torch.distributions.Bernoulli: Bernoulli,
}
