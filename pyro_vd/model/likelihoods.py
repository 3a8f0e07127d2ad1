"""Network output -> distribution of the target."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.errors import UserError

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Likelihood"]

Likelihood = Callable[[Tensor], Distribution]


def Categorical(logits: Tensor) -> dist.Categorical:
    """Class labels (..., int64) from logits (..., classes)."""
    return dist.Categorical(logits=logits)


def Bernoulli(logits: Tensor) -> dist.Bernoulli:
    """Binary targets (float) from logits of the same shape."""
    return dist.Bernoulli(logits=logits)


class Gaussian:
    """Real targets around the output with a known standard deviation, in the target's units.

    Example:
        >>> import torch
        >>> Gaussian(0.5)(torch.zeros(3)).log_prob(torch.zeros(3))
        tensor([-0.2258, -0.2258, -0.2258])
    """

    def __init__(self, scale: float):
        if not 0 < scale < float("inf"):
            raise UserError(f"Gaussian(scale={scale}): the standard deviation is a finite number above 0")
        self.scale = scale

    def __call__(self, mean: Tensor) -> dist.Normal:
        return dist.Normal(mean, self.scale)


# A distribution class given as the likelihood would read the network's output as its first argument, which for these
# is a probability and not a logit.
BY_LOGITS: dict[object, Likelihood] = {
    dist.Categorical: Categorical,
    torch.distributions.Categorical: Categorical,
    dist.Bernoulli: Bernoulli,
    torch.distributions.Bernoulli: Bernoulli,
}
