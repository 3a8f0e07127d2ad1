"""Pictures of the accuracy experiments, drawn from records."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch

from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.published import KINGMA_FIGURE
from pyro_vd.experiments.common.records import Record

__all__ = ["draw_errors", "draw_log_alphas"]


def draw_errors(records: list[Record], path: Path) -> None:
    """Error against hidden units: a line per row with bars of one standard deviation, crosses for the published figure.

    The ``column`` of a record must be "<units> units".
    """
    by_row: dict[str, dict[int, list[float]]] = {}
    for record in records:
        if not record["diverged"]:
            units = by_row.setdefault(record["row"], {}).setdefault(int(record["column"].split()[0]), [])
            units.append(100 * record["test_error"])
    if not by_row:
        return
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    rows = [name for name in KINGMA_FIGURE if name in by_row]
    for place, row in enumerate(rows):
        shift = 1.012 ** (place - (len(rows) - 1) / 2)  # side by side, so that the bars do not overlap
        widths = sorted(by_row[row])
        means = [statistics.mean(by_row[row][width]) for width in widths]
        bars = [statistics.stdev(by_row[row][width]) if len(by_row[row][width]) > 1 else 0.0 for width in widths]
        line = axis.errorbar([shift * width for width in widths], means, bars, marker="o", capsize=3, label=row)
        published = {shift * width: KINGMA_FIGURE[row][width] for width in widths if width in KINGMA_FIGURE[row]}
        axis.plot(list(published), list(published.values()), "x", color=line[0].get_color())
    axis.plot([], [], "x", color="black", label="read off the published figure")
    axis.set(xscale="log", xlabel="units in each of three hidden layers", ylabel="test error, %")
    ticks = sorted({width for widths in by_row.values() for width in widths})
    axis.set_xticks(ticks, [str(width) for width in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_log_alphas(records: list[Record], path: Path) -> None:
    """Histogram of log_alpha of seed 0 for every row, one below the other, with the pruning threshold."""
    drawn = [record for record in records if record["seed"] == 0 and not record["diverged"]]
    if not drawn:
        return
    figure, axes = plt.subplots(len(drawn), 1, figsize=(8, 0.75 * len(drawn) + 0.8), sharex=True, layout="constrained")
    for axis, record in zip([axes] if len(drawn) == 1 else axes, drawn, strict=True):
        counts = torch.tensor(record["log_alpha"]["counts"], dtype=torch.float64)
        low, high = record["log_alpha"]["range"]
        edges = torch.linspace(low, high, len(counts) + 1)
        # The last bar counts all values above and would flatten the others at its full height.
        axis.stairs((counts / counts[:-1].max().clamp(min=1)).clamp(max=1).tolist(), edges.tolist(), fill=True)
        axis.axvline(3, color="tab:red", linewidth=1)
        axis.set_yticks([])
        axis.text(0.01, 0.72, record["row"], transform=axis.transAxes, fontsize=9, va="center")
    axis.set_xlabel("log alpha of the weights, the last bar 15 and above (cut off); right of the line: pruned")
    save_figure(figure, path)
