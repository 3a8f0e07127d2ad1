"""Likelihoods: callables from the network's output to the distribution of the targets. Those of classes are here."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = ["Bernoulli", "Categorical", "Likelihood"]

Likelihood = Callable[[Tensor], Distribution]


def Categorical(logits: Tensor) -> dist.Categorical:
    """Distribution of class labels (...), int64, from logits (..., classes)."""
    return dist.Categorical(logits=logits)


def Bernoulli(logits: Tensor) -> dist.Bernoulli:
    """Distribution of binary targets, floating point, from logits of the same shape."""
    return dist.Bernoulli(logits=logits)


# If one of these classes is the likelihood, the network's output would be its first argument, which is a probability
# and not a logit.
BY_LOGITS: dict[object, Likelihood] = {
    dist.Categorical: Categorical,
    torch.distributions.Categorical: Categorical,
    dist.Bernoulli: Bernoulli,
    torch.distributions.Bernoulli: Bernoulli,
}
