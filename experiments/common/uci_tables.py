"""Tables of the UCI benchmark: ours beside the published rows, and differences from Monte Carlo dropout by split."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pyro_vd.data import UCI_SETS
from pyro_vd.experiments.common.published import find
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, group_by
from pyro_vd.files import write_atomically

__all__ = ["KEYS", "REPEATED", "collect", "compare", "difference", "make_tables", "mean_and_error", "write_scores"]

KEYS = ("row", "log_likelihood", "rmse", "mc_dropout", "seconds", "diverged")
NETWORK = "regression"  # in published.csv
REPEATED = "MCVI, repeated"
QUANTITIES = {"log_likelihood": "Test log likelihood, nats", "rmse": "Root mean squared error, units of the targets"}
PANELS = (tuple(UCI_SETS)[:4], tuple(UCI_SETS)[4:])  # a table of all sets is too wide for a page
Found = Mapping[str, Mapping[str, Run]]


def make_tables(store: Store, rows: Iterable[str]) -> list[Table]:
    """Both quantities of every set with the published rows, then the differences from Monte Carlo dropout.

    Args:
        rows: names of the rows, in their order.
    """
    found = collect(store, rows)
    tables = [_make_scores(found, quantity, sets) for quantity in QUANTITIES for sets in PANELS]
    tables += [_make_differences(found, sets) for sets in PANELS]
    return [table for table in (*tables, _make_repeated(found)) if table.rows]


def collect(store: Store, rows: Iterable[str]) -> dict[str, dict[str, Run]]:
    """Row -> set -> run, of the rows that have runs."""
    by_row = group_by(store.runs(KEYS), lambda run: str(run["row"]))
    return {row: {run.spec.dataset: run for run in by_row[row]} for row in rows if row in by_row}


def write_scores(store: Store, path: Path) -> None:
    """Writes the scores of every split as CSV, to which others can add rows: set, row, split, log_likelihood, rmse."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("set", "row", "split", *QUANTITIES))
    good = [run for run in store.runs(KEYS) if not run.diverged]
    for run in sorted(good, key=lambda run: (run.spec.dataset, run["row"])):
        for split, scores in enumerate(zip(*(run[quantity] for quantity in QUANTITIES), strict=True)):
            writer.writerow((run.spec.dataset, run["row"], split, *(f"{score:.6g}" for score in scores)))
    write_atomically(path, text.getvalue().encode())


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over splits and its standard error, NaN for one split."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), error


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of the differences between scores of the same splits, the first ones of both."""
    return mean_and_error([a - b for a, b in zip(ours, theirs, strict=False)])


def _make_scores(found: Found, quantity: str, sets: Iterable[str]) -> Table:
    names = [name for name in sets if any(name in runs for runs in found.values())]
    rows = [
        (row, *(_tell(runs.get(name), lambda run: mean_and_error(run[quantity])) for name in names))
        for row, runs in found.items()
    ]
    published = group_by(find(network=NETWORK, quantity=quantity), lambda cell: cell.method)
    for method, cells in published.items():
        known = {cell.dataset: _cell(cell.value, cell.spread) for cell in cells}
        rows.append((f"published: {method}", *(known.get(name, "-") for name in names)))
    title = f"{QUANTITIES[quantity]}, mean ± standard error over splits"
    return Table(title, ("row", *names), tuple(rows) if names else ())


def compare(run: Run) -> tuple[float, float]:
    """Mean and standard error of the log likelihood minus that of published Monte Carlo dropout, by split."""
    return difference(run["log_likelihood"], run["mc_dropout"])


def _make_differences(found: Found, sets: Iterable[str]) -> Table:
    """Ours - published Monte Carlo dropout, by split."""
    names = [name for name in sets if any(name in runs for runs in found.values())]
    rows = [(row, *(_tell(runs.get(name), compare) for name in names)) for row, runs in found.items()]
    title = "Log likelihood minus that of Monte Carlo dropout on the same splits, mean ± standard error"
    return Table(title, ("row", *names), tuple(rows) if names else ())


def _make_repeated(found: Found) -> Table:
    """Whether the published row of the same method is reached."""
    published = {cell.dataset: cell for cell in find(network=NETWORK, quantity="log_likelihood", method="MCVI")}
    rows = []
    good = {name: run for name, run in found.get(REPEATED, {}).items() if not run.diverged}
    for name, run in good.items():
        mean, error = mean_and_error(run["log_likelihood"])
        theirs = published[name]
        together = math.hypot(error, theirs.spread or 0.0)
        rows.append(
            (name, _cell(mean, error), _cell(theirs.value, theirs.spread), f"{(mean - theirs.value) / together:.1f}")
        )
    title = "The published row MCVI, repeated: log likelihood, and the difference in standard errors"
    return Table(title, ("set", "ours", "published", "difference"), tuple(rows))


def _tell(run: Run | None, measure: Callable[[Run], tuple[float, float]]) -> str:
    """A cell of a run, which may be missing or have no numbers."""
    if run is None:
        return "-"
    return "diverged" if run.diverged else _cell(*measure(run))


def _cell(mean: float, error: float | None) -> str:
    """A number with its standard error, if there is one, to the first digit of the error, and at least two decimals."""
    if error is None or math.isnan(error):
        return f"{mean:.2f}"
    decimals = max(2, -math.floor(math.log10(error))) if error > 0 else 2
    return f"{mean:.{decimals}f} ± {error:.{decimals}f}"
