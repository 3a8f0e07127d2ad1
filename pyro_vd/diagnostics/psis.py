"""How well a guide covers the posterior, by Pareto-smoothed importance sampling."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.distributions import Delta

from pyro_vd.data import LabeledImages
from pyro_vd.diagnostics import _arviz
from pyro_vd.diagnostics._draws import fork_seeded_rng, observe, unpack_data
from pyro_vd.errors import UserError
from pyro_vd.model.event import base_distribution
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree

__all__ = ["PSISDiagnostic", "psis_diagnostic"]

FEWEST_SAMPLES = 25  # fewer have no tail that could be fitted


class PSISDiagnostic(NamedTuple):
    """How well a guide covers the posterior.

    Attributes:
        pareto_k: shape parameter of the importance weights' tail. Below 0.5 the weights have a finite variance. Below
            0.7 reweighting the draws would correct the guide. Above 0.7 the guide is far from the posterior; this is
            the usual case for independent noise on the weights of a network.
        effective_sample_size: number of posterior draws that the reweighted draws are worth.
        log_weights: (num_samples,), log p(y, w) - log q(w) up to a constant, in nats.
    """

    pareto_k: float
    effective_sample_size: float
    log_weights: np.ndarray


def psis_diagnostic(
    posterior: Posterior, train: LabeledImages | tuple[Any, Any], *, num_samples: int = 1000, seed: int = 0
) -> PSISDiagnostic:
    """Pareto-smoothed importance sampling of the posterior by the guide (Yao et al. 2018, algorithm 1).

    Args:
        posterior: a trained pair.
        train: its training data; every draw is evaluated on all of it.
        num_samples: number of weight draws.
        seed: seed of the draws. The global random state is unchanged.

    Raises:
        UserError: for a scheme or prior without a density over weights, point estimates included; for fewer than 25
            draws, which have no tail; if the densities are NaN, or 0 in every draw.

    Example:
        >>> import pyro_vd
        >>> from pyro_vd import guides
        >>> model = pyro_vd.lift(torch.nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, num_data=20)
        >>> posterior = pyro_vd.Posterior(model, guides.sparse.Guide(model))
        >>> psis_diagnostic(posterior, (torch.randn(20, 3), torch.randint(2, (20,))), num_samples=100).pareto_k < 2
        True
    """
    x, y = unpack_data(train)
    if num_samples < FEWEST_SAMPLES:
        raise UserError(f"psis_diagnostic: num_samples={num_samples}; at least {FEWEST_SAMPLES} draws have a tail")
    with fork_seeded_rng(seed):
        log_weights = np.array([_log_weight(posterior, x, y) for _ in range(num_samples)])
    if not np.isfinite(log_weights.max()):  # also if one is NaN
        raise UserError(
            "psis_diagnostic: p(y, w) / q(w) is NaN, infinite or always 0; look for NaN in weights and data"
        )
    smoothed, pareto_k = _arviz.psis(log_weights - log_weights.max())
    weights = np.exp(smoothed - smoothed.max())
    return PSISDiagnostic(float(pareto_k), float(weights.sum() ** 2 / np.square(weights).sum()), log_weights)


@torch.no_grad()
def _log_weight(posterior: Posterior, x: Tree, y: Tree) -> float:
    weights = posterior.weights()
    sites = observe(posterior, weights, x, y).values()
    log_weight = sum(float(target.log_prob(values).double().sum()) for target, values in sites)
    try:
        for site, value in weights.items():
            q = posterior.guide.q(site)
            if isinstance(q, Delta):
                raise NotImplementedError
            p = base_distribution(posterior.model.priors[site])
            log_weight += float((p.log_prob(value).double() - q.log_prob(value).double()).sum())
    except (AttributeError, NotImplementedError):  # from the scheme's or the prior's log_prob
        raise UserError(
            f"psis_diagnostic: {site!r} has no density over weights under this scheme or prior, and so no importance "
            "weights"
        ) from None
    return log_weight
