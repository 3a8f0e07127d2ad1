"""Tables and pictures of the study of ResNet9."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables, make_title
from pyro_vd.experiments.common.curve_pictures import draw_curves
from pyro_vd.experiments.common.measures import COMPRESSION_KEYS
from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent, ratio

__all__ = ["ORIGINAL", "describe_steps", "draw", "make_tables"]

# Accuracies of the original study, one run each; the last after 50 epochs.
ORIGINAL = {
    "no augmentation": 0.791,
    "crop and flip": 0.845,
    "L2": 0.868,
    "momentum": 0.875,
    "cyclic learning rate": 0.899,
    "3x3 kernels": 0.908,
    "the recipe": 0.9158,
}


def make_tables(columns: Columns, store: Store) -> list[Table]:
    """Errors of the schemes; accuracies of the steps beside the original ones; error and non-zeros after pruning."""
    schemes = accuracy_tables({"schemes": columns["schemes"]}, store, "the recipe")
    return [*schemes, *_step_table(columns, store), *_pruning_table(columns, store)]


def describe_steps(columns: Columns, store: Store) -> str:
    """A sentence: how many of the original's steps raise the accuracy here; empty if not all rows have runs."""
    accuracies = [_mean_accuracy(runs) for runs in _find_steps(columns, store).values()]
    if len(accuracies) < len(ORIGINAL):
        return ""
    gains = [after - before for before, after in itertools.pairwise(accuracies)]
    return f"every step raises the original accuracy, and {sum(gain > 0 for gain in gains)} of {len(gains)} do here"


def draw(columns: Columns, store: Store) -> None:
    """Draws the accuracy of every step, and error against compression, beside the records."""
    found = _find_steps(columns, store)
    if found:
        figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
        axis.plot([100 * ORIGINAL[row] for row in found], list(found), "x", color="black")
        axis.plot([100 * _mean_accuracy(runs) for runs in found.values()], list(found), "o", color="#d62728")
        axis.set(xlabel="test accuracy, %", title="circles: ours; crosses: the original study, one run a row")
        axis.invert_yaxis()
        axis.grid(alpha=0.3)
        save_figure(figure, store.folder / "steps.png")
    pruned = [run for runs in find_runs(store, columns["pruning"], COMPRESSION_KEYS).values() for run in runs]
    draw_curves(pruned, store.folder / "curves.png")


def _find_steps(columns: Columns, store: Store) -> dict[str, list[Run]]:
    """Row of the original study -> its runs that did not diverge; without those that have none."""
    rows = {**columns["steps"], "the recipe": columns["schemes"]["none"]}
    finished = {row: [run for run in runs if not run.diverged] for row, runs in find_runs(store, rows).items()}
    return {row: runs for row, runs in finished.items() if runs}


def _mean_accuracy(runs: Sequence[Run]) -> float:
    return 1 - statistics.mean(run["test_error"] for run in runs)


def _step_table(columns: Columns, store: Store) -> list[Table]:
    found = _find_steps(columns, store)
    if not found:
        return []
    rows = [
        (row, percent([1 - run["test_error"] for run in runs]), f"{100 * ORIGINAL[row]:.2f}",
         str(runs[0].spec.main.training.epochs), str(len(runs)))
        for row, runs in found.items()
    ]  # fmt: skip
    title = "; ".join(filter(None, ["Steps to the recipe, each with those before", describe_steps(columns, store)]))
    return [Table(title, ("row", "accuracy %", "original", "epochs", "n"), tuple(rows))]


def _pruning_table(columns: Columns, store: Store) -> list[Table]:
    found = find_runs(store, columns["pruning"], COMPRESSION_KEYS)
    if not found:
        return []
    rows = []
    for row, runs in found.items():
        good = [run for run in runs if not run.diverged]
        nonzero = f"{statistics.mean(run['nonzero'] for run in good):,.0f}" if good else "-"
        errors = percent([run["test_error"] for run in good])
        rows.append((row, errors, nonzero, ratio([run["compression"] for run in good]), count_runs(runs)))
    title = make_title("Pruning after the recipe", [run for runs in found.values() for run in runs])
    return [Table(title, ("row", "error %", "non-zero weights", "compression", "n"), tuple(rows))]
