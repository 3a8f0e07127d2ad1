"""Fixed drop probabilities of the schemes that do not learn them."""

from __future__ import annotations

import math

from pyro_vd.guides._gaussian import BOUNDS
from pyro_vd.model.lift import LiftedModel

__all__ = ["drop_probabilities", "log_alpha_from_p"]

LARGEST = 1 - 2**-24  # the largest float32 below 1: what rounds to 1 would drop everything and divide by 0
LEAST_LOG_ALPHA = BOUNDS["log_alpha"][0]  # p = 0: noise of 1e-9 of a weight's square, and a KL that is still a number


def drop_probabilities(model: LiftedModel, p: float | dict[str, float]) -> dict[str, float]:
    """Site -> drop probability, from one number or one per site.

    Raises:
        ValueError: for a number outside [0, 1), or a dict that does not name exactly the sites.
    """
    rates = dict(p) if isinstance(p, dict) else dict.fromkeys(model.initial, p)
    if rates.keys() != model.initial.keys():
        raise ValueError(f"p names {', '.join(rates) or 'nothing'}; the sites are {', '.join(model.initial)}")
    for site, rate in rates.items():
        if not 0 <= rate <= LARGEST:
            raise ValueError(f"p = {rate} at {site!r}: a drop probability lies in [0, 1)")
    return rates


def log_alpha_from_p(p: float) -> float:
    """log of alpha = p / (1 - p), the variance of Gaussian dropout's factor (Srivastava et al. 2014, section 10)."""
    return max(math.log(p / (1 - p)), LEAST_LOG_ALPHA) if p > 0 else LEAST_LOG_ALPHA
