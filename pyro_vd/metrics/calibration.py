"""Calibration: the reliability diagram and the expected calibration error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.metrics._checks import check_probabilities

__all__ = ["Reliability", "expected_calibration_error", "reliability"]

BINS = 15  # Guo et al. 2017


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error, a fraction (Naeini et al. 2015, Guo et al. 2017).

    This is the distance between confidence and accuracy in each of ``bins`` equal intervals of confidence, averaged
    with the numbers of examples as weights. A confidence of exactly 1, which is common in float32, belongs to the last
    interval; torchmetrics gives it an interval of its own.

    Args:
        probabilities: (n, classes).
        labels: (n,), integers.
        bins: number of intervals.
    """
    diagram = reliability(probabilities, labels, bins)
    gaps = (diagram.confidence - diagram.accuracy).abs() * diagram.examples
    return (gaps.sum() / diagram.examples.sum()).item()


class Reliability(NamedTuple):
    """A reliability diagram: statistics of equal intervals of confidence, the largest probability.

    Attributes:
        examples: number of examples in the interval, (bins,), int64.
        confidence: average confidence, (bins,), float64; 0 in an interval without examples.
        accuracy: fraction of correct predictions, (bins,), float64; 0 in an interval without examples.
    """

    examples: Tensor
    confidence: Tensor
    accuracy: Tensor


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """The reliability diagram behind :func:`expected_calibration_error` (Guo et al. 2017).

    Args:
        probabilities: (n, classes).
        labels: (n,), integers.
        bins: number of intervals.

    Example:
        >>> diagram = reliability(torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 1, 1]), bins=2)
        >>> diagram.examples.tolist(), [round(value, 3) for value in diagram.accuracy.tolist()]
        ([0, 3], [0.0, 0.667])
    """
    check_probabilities("reliability", probabilities, labels)
    if bins < 1:
        raise UserError(f"reliability: bins={bins}; at least 1 is needed")
    confidence, predicted = probabilities.double().max(-1)
    bin_index = (confidence * bins).long().clamp(max=bins - 1)
    count = bin_index.bincount(minlength=bins)

    def average(values: Tensor) -> Tensor:
        sums = torch.zeros_like(count, dtype=torch.float64).index_add_(0, bin_index, values)
        return torch.div(sums, count.clamp(min=1))

    return Reliability(count, average(confidence), average((predicted == labels).double()))
