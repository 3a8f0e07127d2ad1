"""The one file that knows ArviZ's versions: 0.23 (Python 3.11) and 1.x (newer Pythons) have different containers."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import numpy as np

from pyro_vd.errors import UserError

__all__ = ["Groups", "arviz", "from_groups", "loo", "psis"]

OLDEST, TOO_NEW = (0, 23), (2,)
Groups = dict[str, dict[str, np.ndarray]]  # group -> variable -> values


def arviz() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
            import arviz as module
    except (ImportError, OSError) as error:  # 0.23 writes a stamp into the user's cache
        raise UserError(f"diagnostics needs ArviZ, which cannot be imported here: {error}") from None
    version = tuple(int(part) for part in module.__version__.split(".")[:2])
    if not OLDEST <= version < TOO_NEW:
        raise UserError(f"ArviZ {module.__version__} is not known here: pip install 'arviz>=0.23,<2'")
    return module


def from_groups(groups: Groups, dims: dict, coords: dict) -> Any:
    if _is_old():
        return arviz().from_dict(**groups, dims=dims, coords=coords)
    return arviz().from_dict(groups, dims=dims, coords=coords)


def loo(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Log predictive density of each observation without itself, nats, and the Pareto k of its importance weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*Estimated shape parameter of Pareto distribution", UserWarning)
        found = arviz().loo(data, pointwise=True, reff=1.0)  # draws are independent
    pointwise = found.loo_i if _is_old() else found.elpd_i
    return np.asarray(pointwise.values, dtype=float), np.asarray(found.pareto_k.values, dtype=float)


def _is_old() -> bool:
    return arviz().__version__.startswith("0.")


def psis(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Smoothed log weights and the shape of their tail; ArviZ 1.x negates what it is given."""
    if _is_old():
        return arviz().psislw(log_weights)
    from arviz_stats.base import array_stats

    return array_stats.psislw(-log_weights)
