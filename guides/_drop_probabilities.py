"""Fixed drop probabilities, for the schemes that do not learn them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pyro_vd.errors import UserError
from pyro_vd.guides._gaussian import BOUNDS
from pyro_vd.model.lift import LiftedModel

__all__ = ["drop_probabilities", "log_alpha_from_p"]

P_MAX = 1 - 2**-24  # the largest float32 below 1: a p that rounds to 1 would drop everything and divide by 0
LOG_ALPHA_MIN = BOUNDS["log_alpha"][0]  # for p = 0: noise of 1e-9 of a weight's square, so that the KL is finite


def drop_probabilities(model: LiftedModel, p: float | Mapping[str, float]) -> dict[str, float]:
    """Site -> drop probability, from one number or one per site.

    Raises:
        UserError: for a number outside [0, 1), or a mapping that does not name exactly the sites.
    """
    by_site = dict(p) if isinstance(p, Mapping) else dict.fromkeys(model.initial, p)
    if by_site.keys() != model.initial.keys():
        raise UserError(f"p names {', '.join(by_site) or 'nothing'}; the sites are {', '.join(model.initial)}")
    for site, probability in by_site.items():
        if not 0 <= probability <= P_MAX:
            raise UserError(f"p = {probability} at {site!r}: a drop probability must be in [0, 1)")
    return by_site


def log_alpha_from_p(p: float) -> float:
    """log of alpha = p / (1 - p), the variance of Gaussian dropout's factor (Srivastava et al. 2014, section 10)."""
    return max(math.log(p / (1 - p)), LOG_ALPHA_MIN) if p > 0 else LOG_ALPHA_MIN
