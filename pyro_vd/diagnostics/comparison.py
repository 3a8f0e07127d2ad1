"""Compares models by expected log predictive density, on held-out examples or by leave-one-out cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_vd.diagnostics import _arviz
from pyro_vd.errors import UserError

__all__ = ["LooResult", "ModelRank", "compare", "loo"]

UNRELIABLE_PARETO_K = 0.7  # Vehtari et al. 2017


class ModelRank(NamedTuple):
    """A model's place in a comparison; the attributes are named as in ``arviz.compare``.

    Attributes:
        name: the model's name.
        elpd: expected log predictive density, the sum of its log scores, in nats.
        elpd_diff: the best model's elpd minus its own.
        dse: standard error of ``elpd_diff``, from the differences for each example, because all models are evaluated on
            the same examples.
    """

    name: str
    elpd: float
    elpd_diff: float
    dse: float


def compare(log_scores: Mapping[str, Tensor]) -> list[ModelRank]:
    """Ranks models by their expected log predictive density, the best first.

    Args:
        log_scores: model -> ``metrics.log_score`` of the same held-out examples, (n,), or the ``log_scores`` of
            :func:`loo`.

    Raises:
        UserError: if the scores are not vectors of the same length, at least two, or one is NaN.

    Example:
        >>> scores = {"a": torch.tensor([-1.0, -2.0]), "b": torch.tensor([-1.5, -1.0])}
        >>> [(rank.name, rank.elpd, rank.elpd_diff, round(rank.dse, 3)) for rank in compare(scores)]
        [('b', -2.5, 0.0, 0.0), ('a', -3.0, 0.5, 1.5)]
    """
    shapes = {tuple(score.shape) for score in log_scores.values()}
    if len(shapes) != 1 or any(len(shape) != 1 or shape[0] < 2 for shape in shapes):
        sizes = ", ".join(f"{name} {tuple(score.shape)}" for name, score in log_scores.items()) or "none"
        raise UserError(f"compare: scores (n,) of the same examples are needed, at least two; there are {sizes}")
    broken = [name for name, score in log_scores.items() if score.isnan().any()]
    if broken:
        raise UserError(f"compare: a score of {', '.join(broken)} is NaN; leave the model out")
    scores = {name: score.double().cpu() for name, score in log_scores.items()}
    best = max(scores.values(), key=lambda score: float(score.sum()))
    ranks = []
    for name, score in scores.items():
        difference = best - score
        error = float(difference.std() * len(difference) ** 0.5)
        ranks.append(ModelRank(name, float(score.sum()), float(difference.sum()), error))
    return sorted(ranks, key=lambda rank: -rank.elpd)


class LooResult(NamedTuple):
    """Leave-one-out cross-validation: how well each observation is predicted from all others.

    Attributes:
        elpd: expected log predictive density, the sum of ``log_scores``, in nats.
        log_scores: (n,), log predictive density of each observation, in nats, for :func:`compare`.
        unreliable: fraction of observations whose Pareto k is above 0.7, so that their score cannot be trusted. If it
            is more than a few percent, which is usual for networks, compare models on held-out examples instead.
    """

    elpd: float
    log_scores: Tensor
    unreliable: float


def loo(data: Any) -> LooResult:
    """Leave-one-out cross-validation by Pareto-smoothed importance sampling (Vehtari et al. 2017).

    It removes one factor of the likelihood from a posterior. So the log likelihoods must be those of the training
    examples; test examples have no factor to remove. The guide is an approximation, not the exact posterior; read the
    result as secondary evidence.

    Args:
        data: ArviZ data of :func:`to_arviz` on the training examples.

    Raises:
        UserError: for data without a log likelihood.
    """
    _arviz.check_group(data, "log_likelihood", "loo")
    scores, pareto_k = _arviz.loo(data)
    return LooResult(float(scores.sum()), torch.from_numpy(scores), float((pareto_k > UNRELIABLE_PARETO_K).mean()))
