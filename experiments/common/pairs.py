"""The model/guide pair of a phase: scheme, prior and likelihood by their names in a spec."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_vd import Categorical, Posterior, SmoothedCategorical, guides, lift
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import naive
from pyro_vd.experiments.common.priors import PRIORS
from pyro_vd.experiments.common.spec import Dense, Fit
from pyro_vd.model.likelihoods import Likelihood

__all__ = ["SCHEMES", "make_likelihood", "make_masked_pair", "make_pair"]

SCHEMES = {**guides.SCHEMES, "hierarchical_naive": naive}


def make_pair(net: nn.Module, phase: Fit, num_data: int) -> Posterior:
    """The scheme's model/guide pair over the network's weights, which are the initial means; untrained.

    Raises:
        UserError: if the network has no such weights, or if the guide refuses the options.
    """
    scheme = SCHEMES[phase.scheme]
    prior = scheme.prior if phase.prior is None else PRIORS[phase.prior]
    try:
        model = lift(net, prior, make_likelihood(phase), num_data=num_data, select=phase.select)
        return Posterior(model, scheme.Guide(model, **phase.options.plain()))
    except ValueError as error:
        raise UserError(f"{phase.scheme}: {error}") from None


def make_masked_pair(net: nn.Module, num_data: int, masks: dict[str, Tensor] | None = None) -> Posterior:
    """A pair without noise, whose weights stay 0 where the masks are False; by default all masks are True."""
    model = lift(net, guides.none.prior, Categorical, num_data=num_data)
    masks = masks or {site: torch.ones_like(weight, dtype=torch.bool) for site, weight in model.initial.items()}
    return Posterior(model, guides.none.Guide(model, masks=masks))


def make_likelihood(phase: Dense | Fit) -> Likelihood:
    """Of the labels, smoothed if the phase says so."""
    return SmoothedCategorical(phase.smoothing) if phase.smoothing else Categorical
