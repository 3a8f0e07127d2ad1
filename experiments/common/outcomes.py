"""Outcomes of runs in compression that a reader must not take for results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pyro_vd.experiments.common.compression_tables import group_runs, network_name
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import group_by

__all__ = ["describe_failures"]

PAGE = "docs/how_to/everything_or_nothing_was_pruned.md"
MUCH_ERROR = 0.2  # above the lowest error of the network on the data
LITTLE_COMPRESSION = 1.05
PRUNING = ("sparse", "hierarchical", "ard", "group_normal_jeffreys", "group_horseshoe", "structured_log_normal", "l0")


def describe_failures(runs: Sequence[Run]) -> list[str]:
    """A sentence for every row of the tables that has far more error than another row of its network and data, or,
    trained by a scheme that prunes, nearly all its weights."""
    panels = group_by([run for run in runs if not run.diverged], lambda run: (network_name(run), run["dataset"]))
    return [line for those in panels.values() for line in _describe_panel(those)]


def _describe_panel(runs: Sequence[Run]) -> list[str]:
    groups = [(group[0].spec.method, _error(group), group) for group in group_runs(runs)]
    known = [(error, method) for method, error, _ in groups]
    known += [(run["test_error_dense"], "the network before") for run in runs if "test_error_dense" in run.record]
    lowest, best = min(known)
    lines = []
    for method, error, group in groups:
        if error > lowest + MUCH_ERROR:
            lines.append(
                f"{method} has {100 * error:.2f} % error, {best} has {100 * lowest:.2f} %: "
                f"too few epochs or too much KL; see {PAGE}"
            )
        elif method in PRUNING and all(run["compression"] and run["compression"] < LITTLE_COMPRESSION for run in group):
            lines.append(f"{method} pruned hardly any weight: too few epochs or too little KL; see {PAGE}")
    return lines


def _error(group: Sequence[Run]) -> float:
    return statistics.mean(run["test_error"] for run in group)
