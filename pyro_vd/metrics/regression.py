"""Regression metrics: error, proper scores, intervals, and the parts of the predictive variance."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from pyro_vd.errors import UserError
from pyro_vd.metrics._checks import check_interval, check_real
from pyro_vd.model.targets import as_target, check_target_shape, check_target_values, has_one_support

__all__ = [
    "PredictiveVariance",
    "coverage",
    "crps",
    "interval_width",
    "log_predictive_density",
    "predictive_variance",
    "rmse",
]


def rmse(prediction: Tensor, y: Tensor) -> float:
    """Root mean squared error, in the units of the targets.

    Args:
        prediction: (n, ...), for example ``posterior.predict_mean(x, num_samples)``.
        y: targets of the same shape.

    Raises:
        UserError: for another shape, no examples, integer predictions, and NaN. All metrics check these.

    Example:
        >>> rmse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        1.4142135623730951
    """
    check_real("rmse", "prediction", prediction, y)
    return (prediction.double() - y.double()).square().mean().sqrt().item()


def crps(draws: Tensor, y: Tensor) -> Tensor:
    """Continuous ranked probability score of each target, of its shape, in its units; smaller is better.

    This is ``E|X - y| - E|X - X'| / 2`` for independent draws X, X' (Gneiting and Raftery 2007, equation 21). For one
    certain prediction it would be the absolute error. The estimate is unbiased for any number of draws, so it can be
    slightly negative.

    Args:
        draws: of the targets, (samples, n, ...), at least two, as ``posterior.predictive(x, num_samples)`` gives them.
        y: targets, (n, ...).

    Raises:
        UserError: for one draw, and what :func:`rmse` refuses.

    Example:
        >>> crps(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0]))
        tensor([0.])
    """
    check_real("crps", "draws", draws, y, samples=True)
    if len(draws) < 2:
        raise UserError("crps: one draw has no spread; at least 2 are needed")
    m = len(draws)
    distances: Tensor = (draws - y).sort(0).values
    # sum over pairs i < j of x_(j) - x_(i), from the sorted draws
    ranks = torch.arange(1 - m, m, 2, dtype=draws.dtype, device=draws.device) / (m * (m - 1))
    expected: Tensor = distances.abs().mean(0) - torch.tensordot(ranks, distances, dims=1)
    return expected


def coverage(low: Tensor, high: Tensor, y: Tensor) -> float:
    """Fraction of targets inside their intervals, both ends included.

    Args:
        low, high: ends of the intervals, (n, ...), as ``posterior.interval(x, num_samples, level)`` gives them.
        y: targets of the same shape.

    Raises:
        UserError: for an interval that ends before it starts, and what :func:`rmse` refuses.

    Example:
        >>> coverage(torch.zeros(4), torch.ones(4), torch.tensor([-1.0, 0.0, 0.5, 1.0]))
        0.75
    """
    check_interval("coverage", low, high, y)
    return ((low <= y) & (y <= high)).double().mean().item()


def interval_width(low: Tensor, high: Tensor) -> float:
    """Average width of the intervals, in the units of the targets.

    Args:
        low, high: ends of the intervals, (n, ...).

    Raises:
        UserError: what :func:`coverage` refuses.
    """
    check_interval("interval_width", low, high, low)
    return (high.double() - low.double()).mean().item()


@torch.no_grad()
def log_predictive_density(target: Distribution, y: Tensor) -> Tensor:
    """Log posterior predictive density of each example's target, (n,), in nats.

    The density is averaged over weight draws, and the logarithm is taken of the average. The average over examples is
    the test log likelihood of the UCI regression benchmark (Hernandez-Lobato and Adams 2015). It depends on the unit of
    the targets: for targets divided by s it is larger by log(s) for each number of a target.

    Args:
        target: distribution of the targets under each draw, (samples, n, ...), as
            ``posterior.model.likelihood(posterior.predict(x, num_samples))``.
        y: targets, (n, ...). The numbers of one example's target count together.

    Raises:
        UserError: for targets of another shape, or outside the support, and for a distribution of another form.

    Example:
        >>> target = torch.distributions.Normal(torch.tensor([[0.0], [2.0]]), 1.0)
        >>> log_predictive_density(target, torch.tensor([1.0]))
        tensor([-1.4189])
    """
    if len(target.batch_shape) < 2:
        raise UserError(
            f"log_predictive_density: the distribution has batch shape {tuple(target.batch_shape)}; (samples, n, ...) "
            "is needed, as posterior.model.likelihood(posterior.predict(x, num_samples)) gives it"
        )
    check_target_shape(target, y.expand(target.batch_shape[0], *y.shape))
    if has_one_support(target):
        check_target_values(target, y)
    log_density: Tensor = Independent(target, len(target.batch_shape) - 2).log_prob(as_target(target, y))
    return log_density.logsumexp(0) - math.log(len(log_density))


class PredictiveVariance(NamedTuple):
    """Variance of the predicted targets and its parts, (n, ...) each, in squared units of the targets.

    Attributes:
        total: variance of the posterior predictive distribution, aleatoric + epistemic.
        aleatoric: variance of the noise, averaged over draws. It remains if all draws agree.
        epistemic: variance of the means between draws. More data would reduce it.
    """

    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor


@torch.no_grad()
def predictive_variance(target: Distribution) -> PredictiveVariance:
    """Splits the variance of the predictions by the law of total variance (Kendall and Gal 2017, equation 9).

    Args:
        target: distribution of the targets under each draw, (samples, n, ...), as
            ``posterior.model.likelihood(posterior.predict(x, num_samples))``.

    Raises:
        UserError: for a distribution of another form, and one without a finite variance, as StudentT with df <= 2.

    Example:
        >>> found = predictive_variance(torch.distributions.Normal(torch.tensor([[0.0], [2.0]]), 3.0))
        >>> [part.item() for part in found]
        [10.0, 9.0, 1.0]
    """
    mean, variance = target.mean, target.variance
    if mean.ndim < 2 or not bool((mean.isfinite() & variance.isfinite()).all()):
        raise UserError(
            f"predictive_variance: the distribution has shape {tuple(mean.shape)}; (samples, n, ...) is needed, with a "
            "finite mean and variance"
        )
    aleatoric, epistemic = variance.mean(0), mean.var(0, correction=0)
    return PredictiveVariance(aleatoric + epistemic, aleatoric, epistemic)
