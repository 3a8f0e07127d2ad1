"""Posterior predictive checks: whether the observed targets look like targets that the model generates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pyro_vd.diagnostics import _arviz
from pyro_vd.errors import UserError
from pyro_vd.model.lift import OBSERVED

__all__ = ["PosteriorPredictiveCheck", "posterior_predictive_check"]


class PosteriorPredictiveCheck(NamedTuple):
    """A statistic of the observed targets, and of replicated ones.

    Attributes:
        observed: the statistic of the observed targets.
        replicated: (chains * draws,), the statistic of the targets of every draw.
        p_value: fraction of replications above the observed statistic; ties count half. Near 0 or 1 the model does not
            generate data like these. It is not uniform under the model: the same data were used for the fit, so it is
            closer to 1/2 than a p-value would be (Gelman et al. 2013, section 6.3).
    """

    observed: float
    replicated: np.ndarray
    p_value: float


def posterior_predictive_check(
    data: Any, statistic: Callable[[np.ndarray], float], name: str = OBSERVED
) -> PosteriorPredictiveCheck:
    """A posterior predictive check (Gelman, Meng and Stern 1996) from ArviZ data.

    Args:
        data: ArviZ data of :func:`to_arviz`.
        statistic: a number of an array of targets, for example their variance or the number in one class.
        name: of the targets; of several, ``y.key``.

    Raises:
        UserError: for data without predictions or without targets of that name, and for a statistic that is not one
            number or is NaN.

    Example:
        >>> import torch, pyro_vd
        >>> from pyro_vd import guides
        >>> from pyro_vd.diagnostics import to_arviz
        >>> model = pyro_vd.lift(torch.nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> found = to_arviz(posterior, (torch.randn(20, 3), torch.ones(20, dtype=torch.long)), num_samples=50)
        >>> posterior_predictive_check(found, np.mean).p_value  # the model generates both classes, the data have one
        0.0
    """
    _arviz.check_group(data, "posterior_predictive", "posterior_predictive_check")
    known = list(data["observed_data"].data_vars)
    if name not in known:
        raise UserError(
            f"posterior_predictive_check: the data have no targets {name}; give name= of {', '.join(known)}"
        )
    observed = _check_number(statistic(data["observed_data"][name].values))
    targets = data["posterior_predictive"][name].values
    replicated = np.array([_check_number(statistic(draw)) for draw in targets.reshape(-1, *targets.shape[2:])])
    above = (replicated > observed).mean() + (replicated == observed).mean() / 2
    return PosteriorPredictiveCheck(observed, replicated, float(above))


def _check_number(value: Any) -> float:
    if np.ndim(value) or np.isnan(value):  # NaN is above nothing, which would give a p-value
        raise UserError(f"posterior_predictive_check: the statistic gave {value!r}; one number is needed, and not NaN")
    return float(value)
