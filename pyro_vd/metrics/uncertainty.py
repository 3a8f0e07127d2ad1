"""Predictive uncertainty: its decomposition, and how well it detects out-of-distribution inputs and errors."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.metrics._checks import SAMPLE_AXES, check_scores, check_vector, describe
from pyro_vd.metrics.predictions import predictive_probabilities

__all__ = ["Uncertainty", "auroc", "predictive_uncertainty", "risk_coverage_curve"]


class Uncertainty(NamedTuple):
    """Entropy of the predictions and its parts, (n,) each, in nats.

    Attributes:
        total: entropy of the posterior predictive distribution.
        aleatoric: entropy of a draw's prediction, averaged over draws. It remains if all draws agree.
        epistemic: total - aleatoric, the mutual information of label and weights. More data would reduce it.
    """

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


def predictive_uncertainty(logits: Tensor) -> Uncertainty:
    """Decomposes the entropy of the predictions (Depeweg et al. 2018).

    Args:
        logits: (samples, n, classes), of weight draws.

    Example:
        >>> agreeing, differing = torch.zeros(2, 1, 2), torch.tensor([[[40.0, 0.0]], [[0.0, 40.0]]])
        >>> [[round(float(part), 3) for part in predictive_uncertainty(logits)] for logits in (agreeing, differing)]
        [[0.693, 0.693, 0.0], [0.693, 0.0, 0.693]]
    """
    check_scores("predictive_uncertainty", logits, SAMPLE_AXES)
    total = _entropy(predictive_probabilities(logits.double()))
    aleatoric = _entropy(F.softmax(logits.double(), dim=-1)).mean(0)
    return Uncertainty(total, aleatoric, (total - aleatoric).clamp(min=0.0))


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities).sum(-1)
    return entropy


def auroc(id_scores: Tensor, ood_scores: Tensor) -> float:
    """Area under the ROC curve of a score that detects out-of-distribution examples.

    This is the probability that an out-of-distribution example has the larger score; ties count half. A score without
    information gives 1/2.

    Args:
        id_scores: (n,), uncertainty of in-distribution examples.
        ood_scores: (m,), uncertainty of out-of-distribution examples.

    Raises:
        UserError: if one of them is empty or not a vector, or a score is NaN.
    """
    check_vector("auroc", id_scores)
    check_vector("auroc", ood_scores)
    _, place, ties = torch.cat([id_scores, ood_scores]).unique(return_inverse=True, return_counts=True)
    ranks = ties.cumsum(0) - (ties - 1).double() / 2  # of each value, from 1; ties share their average rank
    smallest_sum = len(ood_scores) * (len(ood_scores) + 1) / 2
    pairs_won = ranks[place[len(id_scores) :]].sum().item() - smallest_sum  # Mann and Whitney's U
    return float(pairs_won) / (len(id_scores) * len(ood_scores))


def risk_coverage_curve(uncertainty: Tensor, is_wrong: Tensor) -> Tensor:
    """Error rate of the k least uncertain examples, for k = 1 .. n, as fractions, (n,), float64.

    Examples of equal uncertainty share their average error.

    Args:
        uncertainty: (n,), any score that grows with uncertainty.
        is_wrong: (n,), bool, whether the prediction is wrong.

    Raises:
        UserError: for other shapes or types, no examples, and NaN.

    Example:
        >>> risk_coverage_curve(torch.tensor([0.3, 0.1, 0.2]), torch.tensor([True, False, False]))
        tensor([0.0000, 0.0000, 0.3333], dtype=torch.float64)
    """
    check_vector("risk_coverage_curve", uncertainty)
    if is_wrong.shape != uncertainty.shape or is_wrong.dtype != torch.bool:
        raise UserError(
            f"risk_coverage_curve: is_wrong is {describe(is_wrong)}; bool of shape {tuple(uncertainty.shape)} is needed"
        )
    values, inverse, counts = torch.unique(uncertainty, return_inverse=True, return_counts=True)
    errors = torch.zeros(len(values), dtype=torch.float64, device=uncertainty.device)
    errors.index_add_(0, inverse, is_wrong.double())
    expected = (errors / counts).repeat_interleave(counts)  # the average over all orders of ties
    return torch.div(expected.cumsum(0), torch.arange(1, len(uncertainty) + 1, device=uncertainty.device))
