"""Tables and picture of experiments.cifar_basics."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import interval, make_title, paired_differences
from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.published import find
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent

__all__ = ["draw_rows", "make_loss_table", "make_table"]

BASE, NLL = "base", "NLL of log-softmax"


def make_table(columns: Columns, store: Store) -> Table:
    """Errors of every row, and their paired differences from the base."""
    header = ("varied", "row", "test error %", "training", "minus base [95 %]", "n")
    found = list(_find(columns, store))
    base = next((runs for _, row, runs in found if row == BASE), [])
    rows = []
    for group, row, runs in found:
        good = [run for run in runs if not run.diverged]
        errors = (percent([run[key] for run in good]) for key in ("test_error", "train_error"))
        difference = "-" if row == BASE else interval(paired_differences(runs, base))
        rows.append((group, row, *errors, difference, count_runs(runs)))
    return Table(make_title("CifarBasic", [run for *_, runs in found for run in runs]), header, tuple(rows))


def make_loss_table(columns: Columns, store: Store) -> list[Table]:
    """The base and the NLL of log-softmax, seed by seed; no table without a seed of both."""
    runs = {row: {run.spec.seed: run for run in those if not run.diverged} for _, row, those in _find(columns, store)}
    ours, theirs = runs.get(BASE, {}), runs.get(NLL, {})
    rows = tuple(
        (str(seed), *_describe_losses(ours[seed]), *_describe_losses(theirs[seed]))
        for seed in sorted(ours.keys() & theirs.keys())
    )
    header = ("seed", "cross-entropy: first", "last epoch", "error %", "NLL: first", "last epoch", "error %")
    title = "Cross-entropy and NLL of log-softmax: training loss in nats, and test error"
    return [Table(title, header, rows)] if rows else []


def _describe_losses(run: Run) -> tuple[str, str, str]:
    losses = [row["loss"] for row in run["history"]]
    return f"{losses[0]:.5f}", f"{losses[-1]:.5f}", percent([run["test_error"]])


def draw_rows(columns: Columns, store: Store, path: Path) -> None:
    """Test error of every row, a dot per seed; the shaded range is the original's, of rows that are not known."""
    found = [(f"{group}: {row}", good) for group, row, runs in _find(columns, store) if (good := _finished(runs))]
    if not found:
        return
    figure, axis = plt.subplots(figsize=(8, 0.32 * len(found) + 1.2), layout="constrained")
    for place, (_, runs) in enumerate(found):
        errors = [100 * run["test_error"] for run in runs]
        axis.plot(errors, [place] * len(errors), "o", color="#1f77b4", alpha=0.6)
        axis.plot([statistics.mean(errors)], [place], "|", color="black", markersize=14)
    dataset = found[0][1][0].spec.data.name
    if original := [100 * cell.value for cell in find(dataset=dataset, network="cifar_basic", quantity="error")]:
        axis.axvspan(min(original), max(original), color="#ff7f0e", alpha=0.15, linewidth=0)
        axis.text(min(original), -0.9, "range of the original's rows", color="#b35806", fontsize=9, va="center")
    axis.set_yticks(range(len(found)), [name for name, _ in found])
    axis.set(xlabel="test error, %; bars: means", ylim=(len(found) - 0.4, -1.4))
    axis.grid(axis="x", alpha=0.3)
    save_figure(figure, path)


def _finished(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if not run.diverged]


def _find(columns: Columns, store: Store) -> Iterator[tuple[str, str, list[Run]]]:
    """Group, row and its runs, for the rows that have any."""
    for group, rows in columns.items():
        for row, runs in find_runs(store, rows).items():
            yield group, row, runs
