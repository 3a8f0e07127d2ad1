"""Likelihoods: callables from the network's output to the distribution of the targets. Those of classes are here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

__all__ = ["Bernoulli", "Categorical", "Likelihood"]

Likelihood = Callable[[Any], Any]  # from the network's output to a distribution, or a tuple or dict of them


def Categorical(logits: Tensor, ignore_index: int | None = None) -> dist.Categorical:
    """Distribution of class labels (...), int64, from logits (..., classes).

    Args:
        logits: the network's output.
        ignore_index: a label that means that there is none, as at the padding of a sequence; -100 in PyTorch. Its
            log-likelihood is 0, as in ``cross_entropy(..., ignore_index=ignore_index)``. Draws have a label everywhere.

    Example:
        >>> logits, labels = torch.zeros(3, 2), torch.tensor([0, -100, 1])
        >>> Categorical(logits, ignore_index=-100).log_prob(labels)
        tensor([-0.6931,  0.0000, -0.6931])

    As a likelihood, it is ``lambda logits: pyro_vd.Categorical(logits, ignore_index=-100)``.
    """
    if ignore_index is None:
        return dist.Categorical(logits=logits)
    target = _Ignoring(logits=logits)
    target.ignore_index = ignore_index
    return target


def Bernoulli(logits: Tensor) -> dist.Bernoulli:
    """Distribution of binary targets, floating point, from logits of the same shape."""
    return dist.Bernoulli(logits=logits)


class _Ignoring(dist.Categorical):
    """A Categorical in which one label means that there is none."""

    ignore_index = -100

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Constraint:
        return _LabelOrIgnored(self._num_events, self.ignore_index)

    def expand(self, batch_shape: tuple[int, ...], _instance: dist.Categorical | None = None) -> dist.Categorical:
        expanded = super().expand(batch_shape, _instance)
        expanded.ignore_index = self.ignore_index
        return expanded

    def log_prob(self, value: Tensor) -> Tensor:
        is_ignored = value == self.ignore_index
        chosen: Tensor = super().log_prob(value.masked_fill(is_ignored, 0))
        return chosen.masked_fill(is_ignored, 0.0)


class _LabelOrIgnored(Constraint):
    """The labels from 0 to ``classes - 1``, and ``ignore_index``."""

    is_discrete = True
    event_dim = 0

    def __init__(self, classes: int, ignore_index: int):
        self.classes = classes
        self.ignore_index = ignore_index
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        is_label = (value % 1 == 0) & (value >= 0) & (value < self.classes)
        return is_label | (value == self.ignore_index)


# If one of these classes is the likelihood, the network's output would be its first argument, which is a probability
# and not a logit.
BY_LOGITS: dict[object, Likelihood] = {
    dist.Categorical: Categorical,
    torch.distributions.Categorical: Categorical,
    dist.Bernoulli: Bernoulli,
    torch.distributions.Bernoulli: Bernoulli,
}
