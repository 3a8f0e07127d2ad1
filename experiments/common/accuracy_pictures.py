"""Pictures of the accuracy experiments."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import torch

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.published import KINGMA, errors_by_width
from pyro_vd.experiments.common.spec import Spec
from pyro_vd.experiments.common.store import Store

__all__ = ["draw_errors", "draw_log_alphas"]


def draw_errors(columns: Columns, store: Store, path: Path) -> None:
    """Error against hidden units: a line per row with bars of one standard deviation, crosses for the published figure.

    The name of a column must be "<units> units".
    """
    by_row: dict[str, dict[int, list[float]]] = {}
    for column, rows in columns.items():
        for row, runs in find_runs(store, rows).items():
            errors = [100 * run["test_error"] for run in runs if not run.diverged]
            by_row.setdefault(row, {})[int(column.split()[0])] = errors
    if not by_row:
        return
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    known = errors_by_width(KINGMA, "mlp")
    for place, (row, errors) in enumerate(by_row.items()):
        shift = 1.012 ** (place - (len(by_row) - 1) / 2)  # side by side, so that the bars do not overlap
        widths = sorted(width for width, values in errors.items() if values)
        means = [statistics.mean(errors[width]) for width in widths]
        bars = [statistics.stdev(errors[width]) if len(errors[width]) > 1 else 0.0 for width in widths]
        line = axis.errorbar([shift * width for width in widths], means, bars, marker="o", capsize=3, label=row)
        theirs = {shift * width: 100 * known[row][width] for width in widths if width in known.get(row, {})}
        axis.plot(list(theirs), list(theirs.values()), "x", color=line[0].get_color())
    axis.plot([], [], "x", color="black", label="read off the published figure")
    axis.set(xscale="log", xlabel="units in each of three hidden layers", ylabel="test error, %")
    ticks = sorted({width for errors in by_row.values() for width in errors})
    axis.set_xticks(ticks, [str(width) for width in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


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
        axis.stairs((counts / counts[:-1].max().clamp(min=1)).clamp(max=1).tolist(), edges.tolist(), fill=True)
        axis.axvline(3, color="tab:red", linewidth=1)
        axis.set_yticks([])
        axis.text(0.01, 0.72, name, transform=axis.transAxes, fontsize=9, va="center")
    axes[-1, 0].set_xlabel("log alpha of the weights, the last bar 15 and above (cut off); right of the line: pruned")
    save_figure(figure, path)
