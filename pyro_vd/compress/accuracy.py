"""Accuracy: the target of the smallest network that classifies enough held-out examples correctly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from pyro_vd.compress.targets import Candidate, call_network, is_number, read_inputs
from pyro_vd.errors import UserError
from pyro_vd.pytree import Tree, count_both, split

__all__ = ["Accuracy"]

BATCH_SIZE = 1000


@dataclass(frozen=True)
class Accuracy:
    """At least this share of held-out examples is classified correctly.

    The smallest network is taken that does so: a threshold is lowered as far as the accuracy allows. Which threshold
    that is depends on chance if there are few examples: an accuracy of 0.99 on 1,000 examples has a standard error of
    0.003.

    Args:
        least: the share, above 0 and at most 1.
        x: inputs of a validation set, not of the test set, on which the result is then measured.
        y: their labels, (n,), integers.

    Raises:
        UserError: for another share, for inputs that are not tensors, or of no example, and for labels of another form
            or number; later for a network whose output is not a tensor of logits, (n, classes), or that does not take
            the inputs, and for labels that are not those of its classes.

    Example:
        >>> Accuracy(0.98, torch.zeros(10, 4), torch.zeros(10, dtype=torch.int64))
        Accuracy(least=0.98)
    """

    limits_pruning: ClassVar[bool] = True

    least: float
    x: Tree = field(repr=False)
    y: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        if not (is_number(self.least) and 0 < self.least <= 1):
            raise UserError(f"{self}: the share of correct examples must be above 0 and at most 1")
        object.__setattr__(self, "x", read_inputs(self, self.x))
        if not isinstance(self.y, Tensor) or self.y.ndim != 1 or self.y.is_floating_point():
            raise UserError(f"{self}: the labels y must be a tensor of class numbers, one for each example")
        count_both(self.x, self.y)

    @torch.no_grad()
    def measure(self, candidate: Candidate) -> float:
        """The share of correct examples."""
        parts = zip(split(self.x, BATCH_SIZE), self.y.split(BATCH_SIZE), strict=True)
        return sum(self._count_correct(call_network(self, candidate.net, x), y) for x, y in parts) / len(self.y)

    def is_reached(self, measured: float) -> bool:
        return measured >= self.least

    def _count_correct(self, logits: object, y: Tensor) -> int:
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(y) or logits.shape[1] < 2:
            raise UserError(
                f"{self}: the network's output must be a tensor of logits, (n, classes), of two classes or "
                "more; write a target of your own for another one"
            )
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= logits.shape[1]:
            raise UserError(f"{self}: labels y from {low} to {high}, but the classes are 0 to {logits.shape[1] - 1}")
        return int((logits.argmax(1) == y.to(logits.device)).sum())
