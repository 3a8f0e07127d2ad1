"""How well a guide fits, which of several models predicts best, and whether data look like a model's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.distributions import Delta
from torch import Tensor

from pyro_vd.data import LabeledImages
from pyro_vd.diagnostics import _arviz
from pyro_vd.diagnostics._draws import inputs_and_targets, seeded, target_of
from pyro_vd.errors import UserError
from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import OBSERVED
from pyro_vd.posterior import Posterior

__all__ = ["Check", "Fit", "LooResult", "Rank", "loo", "posterior_predictive_check", "psis_diagnostic", "ranking"]

UNRELIABLE = 0.7  # Pareto k (Vehtari et al. 2017)


class Fit(NamedTuple):
    """How well a guide covers the posterior.

    Attributes:
        pareto_k: shape of the importance weights' tail. Below 0.5 they have a variance, below 0.7 reweighting draws
            would mend the guide; above, the guide is far from the posterior, which is the normal case for independent
            noise on the weights of a network.
        effective_draws: how many draws of the posterior the reweighted draws are worth.
        log_weights: (draws,), log p(y, w) - log q(w) up to a constant, nats.
    """

    pareto_k: float
    effective_draws: float
    log_weights: np.ndarray


def psis_diagnostic(
    posterior: Posterior, train: LabeledImages | tuple[Tensor, Tensor], *, draws: int = 1000, seed: int = 0
) -> Fit:
    """Pareto-smoothed importance sampling of the posterior by the guide (Yao et al. 2018, algorithm 1).

    Args:
        train: what it was trained on; every draw goes over all of it.

    Raises:
        UserError: for a scheme or prior without a density over weights, a point estimate among them, fewer than 25
            draws, which show no tail, or densities that are NaN, or 0 in every draw.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> model = pyro_vd.lift(torch.nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> psis_diagnostic(posterior, (torch.randn(20, 3), torch.randint(2, (20,))), draws=100).pareto_k < 2
        True
    """
    x, y = inputs_and_targets(train)
    if draws < 25:
        raise UserError(f"psis_diagnostic: {draws} draws show no tail; 25 at least")
    with seeded(seed):
        log_weights = np.array([_log_weight(posterior, x, y) for _ in range(draws)])
    if not np.isfinite(log_weights.max()):  # NaN, too
        raise UserError(
            "psis_diagnostic: p(y, w) / q(w) is NaN, infinite or always 0; look for NaN in weights and data"
        )
    smoothed, pareto_k = _arviz.psis(log_weights - log_weights.max())
    weights = np.exp(smoothed - smoothed.max())
    return Fit(float(pareto_k), float(weights.sum() ** 2 / np.square(weights).sum()), log_weights)


@torch.no_grad()
def _log_weight(posterior: Posterior, x: Tensor, y: Tensor) -> float:
    weights = posterior.weights()
    log_weight = float(target_of(posterior, weights, x, y).log_prob(y).double().sum())
    try:
        for site, value in weights.items():
            q = posterior.guide.q(site)
            if isinstance(q, Delta):
                raise NotImplementedError
            p = base_distribution(posterior.model.priors[site])
            log_weight += float((p.log_prob(value).double() - q.log_prob(value).double()).sum())
    except (AttributeError, NotImplementedError):  # a UndefinedLogProb becomes no number
        raise UserError(
            f"psis_diagnostic: {site!r} has no density over weights under this scheme or prior, and so no importance "
            "weights"
        ) from None
    return log_weight


class Rank(NamedTuple):
    """A model's place by held-out examples.

    Attributes:
        elpd: sum of its log scores, nats.
        behind: the best model's elpd less its own.
        standard_error: of ``behind``, by the differences at each example: the models saw the same ones.
    """

    name: str
    elpd: float
    behind: float
    standard_error: float


def ranking(log_scores: Mapping[str, Tensor]) -> list[Rank]:
    """Models by their expected log predictive density on held-out examples, the best first.

    Args:
        log_scores: by model, ``metrics.log_score`` of the same held-out examples, (n,).

    Raises:
        UserError: where the scores are not vectors of equally many examples, two at least, or one is NaN.

    Example:
        >>> scores = {"a": torch.tensor([-1.0, -2.0]), "b": torch.tensor([-1.5, -1.0])}
        >>> [(rank.name, rank.elpd, rank.behind, round(rank.standard_error, 3)) for rank in ranking(scores)]
        [('b', -2.5, 0.0, 0.0), ('a', -3.0, 0.5, 1.5)]
    """
    shapes = {tuple(score.shape) for score in log_scores.values()}
    if len(shapes) != 1 or any(len(shape) != 1 or shape[0] < 2 for shape in shapes):
        sizes = ", ".join(f"{name} {tuple(score.shape)}" for name, score in log_scores.items()) or "none"
        raise UserError(f"ranking: scores (n,) of the same examples are needed, two at least; there are {sizes}")
    broken = [name for name, score in log_scores.items() if score.isnan().any()]
    if broken:
        raise UserError(f"ranking: a score of {', '.join(broken)} is NaN; such a model has no place")
    scores = {name: score.double().cpu() for name, score in log_scores.items()}
    best = max(scores.values(), key=lambda score: float(score.sum()))
    ranks = []
    for name, score in scores.items():
        difference = best - score
        error = float(difference.std() * len(difference) ** 0.5)
        ranks.append(Rank(name, float(score.sum()), float(difference.sum()), error))
    return sorted(ranks, key=lambda rank: -rank.elpd)


class LooResult(NamedTuple):
    """How well each observation is predicted by what the others say of the weights.

    Attributes:
        elpd: sum of ``log_scores``, nats.
        log_scores: (n,), log predictive density of each observation, for :func:`ranking`.
        unreliable: share of observations whose Pareto k is above 0.7, so that their score means nothing. Where it is
            more than a few percent, which is the normal case for networks, rank by held-out examples instead.
    """

    elpd: float
    log_scores: Tensor
    unreliable: float


def loo(data: Any) -> LooResult:
    """Pareto-smoothed importance sampling leave-one-out cross-validation (Vehtari et al. 2017) from ArviZ data.

    It takes one term out of a posterior. The guide is fitted to an objective and is no exact posterior, and with it the
    log likelihoods have to be those of the training examples: of test examples there is nothing to leave out.

    Args:
        data: of :func:`to_arviz`, about the training examples.

    Raises:
        UserError: for data without a log likelihood.
    """
    _need(data, "log_likelihood", "loo")
    scores, pareto_k = _arviz.loo(data)
    return LooResult(float(scores.sum()), torch.from_numpy(scores), float((pareto_k > UNRELIABLE).mean()))


class Check(NamedTuple):
    """A number of the observed targets beside that of replicated ones.

    Attributes:
        observed: the statistic of the targets that were given.
        replicated: (chains * draws,), that of the targets of every draw.
        p_value: share of the replications above the observed number, ties half. Near 0 or 1 the model does not make
            data like these. It is not uniform under the model: the same data have been fitted, so that it is nearer to
            1/2 than a p-value would be (Gelman et al. 2013, section 6.3).
    """

    observed: float
    replicated: np.ndarray
    p_value: float


def posterior_predictive_check(data: Any, statistic: Callable[[np.ndarray], float]) -> Check:
    """A posterior predictive check (Gelman, Meng and Stern 1996) from ArviZ data.

    Args:
        data: of :func:`to_arviz`.
        statistic: of targets, an array like the observed ones: how many there are of a class, their variance, ...

    Raises:
        UserError: for data without predictions, and a statistic that is not one number or is NaN.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> from pyro_vd.diagnostics import to_arviz
        >>> model = pyro_vd.lift(torch.nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> found = to_arviz(posterior, (torch.randn(20, 3), torch.ones(20, dtype=torch.long)), draws=50)
        >>> posterior_predictive_check(found, np.mean).p_value  # the model makes both classes, the data are all of one
        0.0
    """
    _need(data, "posterior_predictive", "posterior_predictive_check")
    observed = _number(statistic(data["observed_data"][OBSERVED].values))
    targets = data["posterior_predictive"][OBSERVED].values
    replicated = np.array([_number(statistic(draw)) for draw in targets.reshape(-1, *targets.shape[2:])])
    above = (replicated > observed).mean() + (replicated == observed).mean() / 2
    return Check(observed, replicated, float(above))


def _number(value: Any) -> float:
    if np.ndim(value) or np.isnan(value):  # whose place among others would be 0
        raise UserError(f"posterior_predictive_check: the statistic gave {value!r}; one number is needed, and not NaN")
    return float(value)


def _need(data: Any, group: str, asked: str) -> None:
    try:
        data[group]
    except (KeyError, TypeError):
        raise UserError(f"{asked}: the data have no group {group}; to_arviz makes it") from None
