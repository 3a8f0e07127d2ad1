"""Temperature scaling: one number that calibrates the probabilities of a trained classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.metrics._checks import check_scores

__all__ = ["Temperature", "fit_temperature"]

HALVINGS = 60  # of an interval of log(1 / t): to the last digit of float64


@dataclass(frozen=True)
class Temperature:
    """Divides logits by ``value``: above 1 the probabilities become less confident, and no prediction changes."""

    value: float

    def __call__(self, logits: Tensor) -> Tensor:
        """The scaled logits, of the same shape."""
        return logits / self.value


@torch.no_grad()
def fit_temperature(logits: Tensor, labels: Tensor) -> Temperature:
    """The temperature with the smallest negative log likelihood of the labels (Guo et al. 2017).

    The loss is convex in 1 / temperature, so its minimum is where its derivative changes sign, which bisection finds.

    Args:
        logits: (n, classes), of validation examples, for example of the network ``posterior.mean()``. For an average
            over draws, give the logarithm of the predictive probabilities.
        labels: (n,), integers.

    Raises:
        UserError: if no finite temperature above 0 is best: every label has the largest logit of its row, or the labels
            have no larger logits than the other classes on average. Also for what :func:`error_rate` refuses, and for
            an infinite logit.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]] * 4)  # right in 3 of 4 cases: log(3) is calibrated
        >>> temperature = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
        >>> temperature(logits)[0].softmax(-1)
        tensor([0.7500, 0.2500])
    """
    check_scores("fit_temperature", logits, ("n", "classes"), labels)
    scores = logits.double()
    if not bool(scores.isfinite().all()):
        raise UserError("fit_temperature: a logit is infinite; clamp the probabilities before their logarithm is taken")
    scores = scores - scores.amax(-1, keepdim=True)
    right = scores.gather(-1, labels.long()[:, None])[:, 0]
    if not bool((right < 0).any()):
        raise UserError(
            "fit_temperature: every label has the largest logit, so the best temperature is 0; take validation "
            "examples, among which some predictions are wrong"
        )

    def slope(inverse: float) -> float:
        """Derivative of the loss by 1 / temperature; it grows with it."""
        return ((F.softmax(scores * inverse, -1) * scores).sum(-1) - right).mean().item()

    if slope(0.0) >= 0:
        raise UserError(
            "fit_temperature: the labels have no larger logits than the other classes on average, so the best "
            "temperature is infinite; do the labels belong to these examples?"
        )
    low, high = -1.0, 1.0  # of log(1 / temperature)
    while slope(math.exp(low)) >= 0:
        low *= 2
    while slope(math.exp(high)) < 0:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) >= 0 else (middle, high)
    return Temperature(math.exp(-(low + high) / 2))
