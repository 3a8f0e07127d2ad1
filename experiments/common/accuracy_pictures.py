"""Pictures of the accuracy experiments."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.measures import THRESHOLD
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.spec import Spec
from pyro_vd.experiments.common.store import Run, Store

__all__ = ["draw_errors", "draw_log_alphas"]

LINES = (("-", "o"), ("--", "s"), (":", "^"))  # of the rows of one scheme


def draw_errors(
    columns: Columns, store: Store, path: Path, published: Callable[[str], Mapping[str, float]] | None = None
) -> None:
    """Error against hidden units: a line per row with bars of one standard deviation, crosses for published errors,
    joined to ours by dotted lines.

    Args:
        columns: whose names are "<units> units".
        store: of their runs.
        path: of the picture; nothing is drawn if there are no runs.
        published: see ``accuracy_tables``.
    """
    measured = _collect(columns, store)
    if not measured:
        return
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    drawn: list[str] = []
    any_published = False
    for place, (row, runs) in enumerate(measured.items()):
        shift = 1.012 ** (place - (len(measured) - 1) / 2)  # side by side, so that the bars do not overlap
        errors = {column: [100 * run["test_error"] for run in those] for column, those in runs.items()}
        method = next(iter(runs.values()))[0].spec.method
        style, mark = LINES[drawn.count(method) % len(LINES)]
        drawn.append(method)
        axis.errorbar(
            [shift * _units(column) for column in errors],
            [statistics.mean(values) for values in errors.values()],
            [statistics.stdev(values) if len(values) > 1 else 0.0 for values in errors.values()],
            color=color_of(method), linestyle=style, marker=mark, capsize=3,
        ).lines[0].set_label(row)  # fmt: skip
        known = {column: published(column) for column in errors} if published else {}
        theirs = [(shift * _units(column), 100 * rows[row]) for column, rows in known.items() if row in rows]
        if theirs:
            axis.plot(*zip(*theirs, strict=True), "x", color=color_of(method))
            ours = [statistics.mean(errors[column]) for column, rows in known.items() if row in rows]
            axis.vlines([x for x, _ in theirs], [y for _, y in theirs], ours, color=color_of(method), linestyle=":",
                        linewidth=0.8)  # fmt: skip
            any_published = True
    axis.set(xscale="log", xlabel="units in each of three hidden layers", ylabel="test error, %")
    ticks = sorted({_units(column) for runs in measured.values() for column in runs})
    axis.set_xticks(ticks, [str(width) for width in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    label_lines(axis)
    if any_published:
        axis.set_title("lines: our means and standard deviations; crosses: read off the published figure", fontsize=10)
    save_figure(figure, path)


def _collect(columns: Columns, store: Store) -> dict[str, dict[str, list[Run]]]:
    """Row -> column, fewest units first -> runs that did not diverge; without those that have none."""
    found: dict[str, dict[str, list[Run]]] = {}
    for column in sorted(columns, key=_units):
        for row, runs in find_runs(store, columns[column]).items():
            if good := [run for run in runs if not run.diverged]:
                found.setdefault(row, {})[column] = good
    return found


def _units(column: str) -> int:
    return int(column.split()[0])


def draw_log_alphas(rows: Mapping[str, Spec], store: Store, path: Path) -> None:
    """Histogram of log_alpha of seed 0 for every row, one below the other, with the pruning threshold."""
    drawn = {name: run for name, spec in rows.items() if (run := store.load(spec)) and not run.diverged}
    if not drawn:
        return
    figure, axes = plt.subplots(
        len(drawn), 1, figsize=(8, 0.75 * len(drawn) + 0.8), sharex=True, layout="constrained", squeeze=False
    )
    for axis, (name, run) in zip(axes[:, 0], drawn.items(), strict=True):
        counts = torch.tensor(run["log_alpha"]["counts"], dtype=torch.float64)
        low, high = run["log_alpha"]["range"]
        edges = torch.linspace(low, high, len(counts) + 1)
        # The last bar counts all values above and would flatten the others at its full height.
        heights = (counts / counts[:-1].max().clamp(min=1)).clamp(max=1)
        axis.stairs(heights.tolist(), edges.tolist(), fill=True, color=color_of(run.spec.method))
        axis.axvline(THRESHOLD, color="black", linewidth=1)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.tick_params(bottom=axis is axes[-1, 0])
        axis.text(0.01, 0.72, name, transform=axis.transAxes, fontsize=9, va="center")
    axes[0, 0].annotate("pruned →", (THRESHOLD, 1), xytext=(0, 2), textcoords="offset points",
                        xycoords=("data", "axes fraction"), fontsize=8, va="bottom")  # fmt: skip
    axes[-1, 0].set_xlabel(f"log_alpha of the weights; the last bar counts those of {high:g} and above and is cut off")
    save_figure(figure, path)
