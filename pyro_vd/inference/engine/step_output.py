"""StepOutput: what a training step returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["StepOutput"]


class StepOutput(NamedTuple):
    """Output of one training step, without gradients. Of an ensemble, both have an axis of pairs before every other.

    Attributes:
        log_likelihood: 0-dim, nats, scaled to the training set.
        is_finite: bools, shape (1 + trained parameters,): whether the objective is finite, then whether the gradient of
            every trained parameter is. A step with a False in it has changed nothing.
    """

    log_likelihood: Tensor
    is_finite: Tensor
