"""The only file that depends on ArviZ's version: 0.23 (Python 3.11) and 1.x have different containers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from pyro_vd.errors import UserError

__all__ = ["Groups", "check_group", "from_groups", "import_arviz", "loo", "psis"]

OLDEST_VERSION, FIRST_UNKNOWN_VERSION = (0, 23), (2,)
Groups = dict[str, dict[str, np.ndarray]]  # group -> variable -> values


def import_arviz() -> ModuleType:
    """The package, if its version is known.

    Raises:
        UserError: if it cannot be imported, or is of another version.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
            import arviz as module
    except (ImportError, OSError) as error:  # OSError: 0.23 writes a file into the user's cache folder
        raise UserError(f"diagnostics needs ArviZ, which cannot be imported here: {error}") from None
    version = tuple(int(part) for part in module.__version__.split(".")[:2])
    if not OLDEST_VERSION <= version < FIRST_UNKNOWN_VERSION:
        raise UserError(f"ArviZ {module.__version__} is not known here: pip install 'arviz>=0.23,<2'")
    return module


def from_groups(groups: Groups, dims: Mapping[str, list[str]], coords: Mapping[str, np.ndarray]) -> Any:
    """ArviZ data with these groups, names of dimensions by variable, and coordinates by dimension."""
    if _is_old():
        return import_arviz().from_dict(**groups, dims=dims, coords=coords)
    return import_arviz().from_dict(groups, dims=dims, coords=coords)


def check_group(data: Any, group: str, caller: str) -> None:
    """Refuses data without the group.

    Args:
        data: ArviZ data.
        group: name of the group.
        caller: name of the function that needs it, the first word of the message.
    """
    try:
        data[group]
    except (KeyError, TypeError):
        raise UserError(f"{caller}: the data have no group {group}; to_arviz makes it") from None


def loo(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Leave-one-out log predictive density of each observation, in nats, and Pareto k of its importance weights.

    The log-likelihoods of several targets are added.
    """
    sites = [site.values for site in data["log_likelihood"].data_vars.values()]
    if len(sites) > 1:
        data = from_groups({"log_likelihood": {"y": np.sum(sites, axis=0)}}, {}, {})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*Estimated shape parameter of Pareto distribution", UserWarning)
        found = import_arviz().loo(data, pointwise=True, reff=1.0)  # the draws are independent
    pointwise = found.loo_i if _is_old() else found.elpd_i
    return np.asarray(pointwise.values, dtype=float), np.asarray(found.pareto_k.values, dtype=float)


def psis(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed log weights and the shape parameter of their tail. ArviZ 1.x negates its argument."""
    if _is_old():
        smoothed, pareto_k = import_arviz().psislw(log_weights)
    else:
        from arviz_stats.base import array_stats

        smoothed, pareto_k = array_stats.psislw(-log_weights)
    return smoothed, pareto_k


def _is_old() -> bool:
    version: str = import_arviz().__version__
    return version.startswith("0.")
