"""Error rate and proper scoring rules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.metrics._checks import SAMPLE_AXES, check_probabilities, check_scores

__all__ = ["brier_score", "error_rate", "log_score"]


def error_rate(scores: Tensor, labels: Tensor) -> float:
    """Fraction of examples whose label does not have the largest score.

    Args:
        scores: (n, classes), logits or probabilities. For an image of classes, (n, classes, height, width), give
            ``scores.movedim(1, -1).flatten(0, -2)`` and ``labels.flatten()``.
        labels: (n,), integers.

    Raises:
        UserError: for other shapes, no examples, a label that is not a class, and NaN. All metrics check these.
    """
    check_scores("error_rate", scores, ("n", "classes"), labels)
    return (scores.argmax(-1) != labels).double().mean().item()


def log_score(logits: Tensor, labels: Tensor) -> Tensor:
    """Log posterior predictive probability of each label, (n,), in nats.

    The probability is averaged over weight draws. The sum over examples is the expected log predictive density (elpd),
    and the negative of the mean is the NLL. The average is computed from logarithms, so the score is finite even for a
    label whose probability underflows in every draw.

    Args:
        logits: (samples, n, classes), of weight draws.
        labels: (n,), integers.

    Example:
        >>> log_score(torch.tensor([[[0.0, 0.0]], [[0.0, 1000.0]]]), torch.tensor([0]))
        tensor([-1.3863])
    """
    check_scores("log_score", logits, SAMPLE_AXES, labels)
    per_draw = F.log_softmax(logits, -1).gather(-1, labels.long().expand(len(logits), -1)[..., None])[..., 0]
    return per_draw.logsumexp(0) - torch.tensor(float(len(logits))).log()


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Squared distance of the probabilities from the one-hot labels, averaged over examples (Brier 1950).

    The distance is summed over classes. It lies between 0 and 2, and is 0.9 for ten equal probabilities.

    Args:
        probabilities: (n, classes).
        labels: (n,), integers.
    """
    check_probabilities("brier_score", probabilities, labels)
    return (probabilities - F.one_hot(labels.long(), probabilities.shape[-1])).square().sum(-1).double().mean().item()
