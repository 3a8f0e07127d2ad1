"""Checks of the arguments of metrics, against values that would be broadcast or averaged into a meaningless number."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = [
    "SAMPLE_AXES",
    "check_interval",
    "check_labels",
    "check_probabilities",
    "check_real",
    "check_scores",
    "check_vector",
    "describe",
]

SAMPLE_AXES = ("samples", "n", "classes")
SUM_TOLERANCE = 1e-2  # of float16 probabilities


def check_scores(name: str, scores: Tensor, axes: tuple[str, ...], labels: Tensor | None = None) -> None:
    """Refuses scores of other axes, of one class, or not finite, and labels that do not fit.

    Args:
        name: the metric's name in messages.
        scores: logits or probabilities.
        axes: names of the axes that the scores must have; the last one is that of the classes.
        labels: (n,), integers.
    """
    needed = f"({', '.join(axes)})"
    if scores.ndim != len(axes) or not scores.numel() or not scores.is_floating_point():
        raise UserError(f"{name}: the scores are {describe(scores)}; floating point {needed}, not empty, is needed")
    classes = scores.shape[-1]
    if classes < 2:
        raise UserError(
            f"{name}: one score per example, as of a regressor or a binary logit; {needed} needs at least two classes"
        )
    if not scores.max().item() < float("inf"):  # also False for NaN
        raise UserError(f"{name}: a score is NaN or infinite; look for NaN in the weights and the inputs")
    if labels is not None:
        check_labels(name, labels, scores.shape[-2], classes)


def check_labels(name: str, labels: Tensor, n: int, classes: int) -> None:
    """Refuses labels that are no integers of shape (n,), or not those of the classes."""
    if labels.shape != (n,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"{name}: the labels are {describe(labels)}; integers of shape ({n},) are needed")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise UserError(f"{name}: labels from {low} to {high}, but the classes are 0 to {classes - 1}")


def check_probabilities(name: str, probabilities: Tensor, labels: Tensor) -> None:
    """Refuses rows that are not probabilities, and what :func:`check_scores` refuses."""
    check_scores(name, probabilities, ("n", "classes"), labels)
    off = (probabilities.double().sum(-1) - 1).abs().max().item()
    if probabilities.min().item() < 0 or off > SUM_TOLERANCE:
        raise UserError(
            f"{name}: a row is not probabilities, which are at least 0 and sum to 1; predictive_probabilities computes "
            "them from logits"
        )


def check_vector(name: str, scores: Tensor) -> None:
    """Refuses scores that are not a vector, an empty vector, and NaN."""
    if scores.ndim != 1 or not len(scores) or bool(scores.isnan().any()):
        raise UserError(f"{name}: scores are {describe(scores)}; a vector is needed, not empty, without NaN")


def check_real(name: str, argument: str, values: Tensor, y: Tensor, samples: bool = False) -> None:
    """Refuses predictions of real targets that are integers, of another shape than the targets, empty or not finite.

    Args:
        name: the metric's name in messages.
        argument: the name of ``values`` in messages.
        values: predictions, (n, ...); (samples, n, ...) if ``samples``.
        y: targets, (n, ...), real numbers or counts.
        samples: whether the first axis of ``values`` counts draws.
    """
    shape = values.shape[1:] if samples else values.shape
    if not values.is_floating_point() or shape != y.shape or not values.numel() or not values.ndim:
        needed = f"(samples, *{tuple(y.shape)})" if samples else f"{tuple(y.shape)}"
        raise UserError(
            f"{name}: {argument} is {describe(values)}; floating point of shape {needed}, that of the targets, not "
            "empty, is needed"
        )
    for what, numbers in ((argument, values), ("the targets", y)):
        if not bool(numbers.isfinite().all()):
            raise UserError(f"{name}: a number in {what} is NaN or infinite; leave its example out")


def check_interval(name: str, low: Tensor, high: Tensor, y: Tensor) -> None:
    """Refuses intervals that end before they start, and what :func:`check_real` refuses."""
    check_real(name, "low", low, y)
    check_real(name, "high", high, y)
    if bool((low > high).any()):
        raise UserError(f"{name}: an interval ends before it starts; give low, then high")


def describe(values: Tensor) -> str:
    """Type and shape, for messages."""
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"
