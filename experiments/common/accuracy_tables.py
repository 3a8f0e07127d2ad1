"""Tables of errors by row, with paired tests over seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from scipy import stats

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent

__all__ = ["BASELINE", "accuracy_tables", "interval", "make_title", "paired_differences"]

BASELINE = "none"
FALSE_DISCOVERIES = 0.05
NO_SPREAD = 1e-9  # points; rounding


def accuracy_tables(
    columns: Columns, store: Store, protocol: str, published: Callable[[str], Mapping[str, float]] | None = None
) -> list[Table]:
    """For every column: a table of test errors in percent, and one of the differences from the baseline.

    Args:
        columns: of the study.
        store: of its runs.
        protocol: name of the protocol, for the titles.
        published: column -> row -> published error, a fraction; None if nothing is published of such runs.
    """
    tables = []
    for column, rows in columns.items():
        found = find_runs(store, rows)
        if found:
            title = make_title(f"{column}, {protocol}", [run for runs in found.values() for run in runs])
            tables.append(_error_table(title, found, published(column) if published else {}))
            if differing := _difference_table(found):
                tables.append(differing)
    return tables


def make_title(name: str, runs: Sequence[Run]) -> str:
    """The name, then data, epochs and devices of the runs.

    Shares of shuffled labels are left out if they differ.
    """
    datasets = list(dict.fromkeys(run["dataset"] for run in runs))
    if len(datasets) > 1:
        datasets = list(dict.fromkeys(re.sub(r" \([^(]* shuffled\)$", "", dataset) for dataset in datasets))
    epochs = dict.fromkeys(run.spec.main.training.epochs for run in runs)
    lengths = [f"{count} epoch{'s' * (count > 1)}" for count in epochs]
    return ", ".join([name, *datasets, *lengths, *sorted({run.device for run in runs})])


def _error_table(title: str, found: Mapping[str, Sequence[Run]], published: Mapping[str, float]) -> Table:
    header = ["scheme", "error %, last", "best epoch", "Monte Carlo", "n"] + ["published"] * bool(published)
    rows = []
    for name, runs in found.items():
        good = [run for run in runs if not run.diverged]
        errors = [percent([run[key] for run in good]) for key in ("test_error", "test_error_best", "test_error_mc")]
        known = [f"{100 * published[name]:.2f}" if name in published else "-"] if published else []
        rows.append((name, *errors, count_runs(runs), *known))
    return Table(title, tuple(header), tuple(rows))


def _difference_table(found: Mapping[str, Sequence[Run]]) -> Table | None:
    """The paired differences from the baseline; None if no row has two pairs."""
    differences = {name: paired_differences(runs, found.get(BASELINE, [])) for name, runs in found.items()}
    paired = {name: those for name, those in differences.items() if len(those) > 1 and name != BASELINE}
    if not paired:
        return None
    certain = _find_significant(paired)
    header = ("scheme", f"error minus that of {BASELINE}, points [95 %]", "pairs")
    rows = [(name, interval(those) + " *" * (name in certain), str(len(those))) for name, those in paired.items()]
    return Table("Differences; * marks those that are not 0 (paired t-tests, 5 % false discoveries)", header,
                 tuple(rows))  # fmt: skip


def paired_differences(ours: Sequence[Run], theirs: Sequence[Run]) -> list[float]:
    """Differences of test errors in points, seed by seed: a seed fixes initial weights and the examples' order."""
    by_seed = {run.spec.seed: run for run in theirs if not run.diverged}
    return [
        100 * (run["test_error"] - by_seed[run.spec.seed]["test_error"])
        for run in ours
        if not run.diverged and run.spec.seed in by_seed
    ]


def interval(differences: Sequence[float]) -> str:
    """Mean and 95 % interval of paired differences (Student's t); "-" for fewer than two, and no interval for
    differences without any spread."""
    if len(differences) < 2:
        return "-"  # one run is not a comparison
    if not _has_spread(differences):
        return f"{differences[0]:+z.2f} with every seed"
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return f"{sum(differences) / len(differences):+z.2f} [{low:+z.2f}, {high:+z.2f}]"


def _has_spread(differences: Sequence[float]) -> bool:
    """Whether a test of them is defined."""
    return max(differences) - min(differences) >= NO_SPREAD


def _find_significant(differences: Mapping[str, Sequence[float]]) -> set[str]:
    """Rows that differ from the baseline: paired t-tests, false discovery rate 5 % (Benjamini and Hochberg 1995)."""
    tested = {name: those for name, those in differences.items() if _has_spread(those)}
    if not tested:
        return set()
    p_values = [stats.ttest_1samp(those, 0.0).pvalue for those in tested.values()]
    adjusted = stats.false_discovery_control(p_values, method="bh")
    return {name for name, p in zip(tested, adjusted, strict=True) if p < FALSE_DISCOVERIES}
