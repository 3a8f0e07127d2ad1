"""Pictures of the benchmarks, drawn from records."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.records import Record

__all__ = ["draw_scaling", "draw_step"]


def draw_step(record: Record, title: str, path: Path) -> None:
    """A bar per column, fastest first, with its interval; ours has another color."""
    columns = sorted(record["columns"].items(), key=lambda item: -item[1]["median_ms"])
    names = [name for name, _ in columns]
    medians = [column["median_ms"] for _, column in columns]
    low = [column["median_ms"] - column["interval_ms"][0] for _, column in columns]
    high = [column["interval_ms"][1] - column["median_ms"] for _, column in columns]
    colors = ["tab:orange" if name.startswith("ours") else "tab:gray" for name in names]
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    bars = axis.barh(names, medians, xerr=[low, high], color=colors, capsize=3)
    axis.bar_label(bars, fmt="{:,.4g}", padding=6, fontsize=9)
    axis.set_xlabel("milliseconds per step (median; bar: 95 % interval)")
    axis.set_xlim(0, 1.18 * max(column["interval_ms"][1] for _, column in columns))
    figure.suptitle(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, dpi=150)


LABELS = {"weights": "weights", "batch": "batch size (LeNet-300-100)", "seeds": "seeds at once (LeNet-300-100)"}


def draw_scaling(record: Record, title: str, path: Path) -> None:
    """Milliseconds per step on logarithmic axes, a panel per measured axis, a line per column."""
    points = record["points"]
    axes = [axis for axis in LABELS if any(point["axis"] == axis for point in points)]
    columns = list(dict.fromkeys(point["column"] for point in points))
    figure, panels = plt.subplots(1, len(axes), figsize=(4.2 * len(axes), 3.6), layout="constrained", squeeze=False)
    colors = dict(zip(columns, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for panel, axis in zip(panels[0], axes, strict=True):
        panel.set(xscale="log", yscale="log", xlabel=LABELS[axis], ylabel="milliseconds per step")
        for column in columns:
            line = [p for p in points if (p["axis"], p["column"]) == (axis, column)]
            if line:
                _draw_line(panel, line, column, colors[column])
        if axis == "seeds":
            _draw_single_steps(panel, [p for p in points if p["axis"] == axis])
        panel.legend(fontsize=7, frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path, dpi=150)


def _draw_line(panel: Axes, points: list[Record], label: str, color: str) -> None:
    points = sorted(points, key=lambda point: point["value"])
    panel.plot([p["value"] for p in points], [p["median_ms"] for p in points], "o-", color=color, label=label, ms=4)


def _draw_single_steps(panel: Axes, points: list[Record]) -> None:
    """The time of as many single steps, and ticks at the numbers of seeds."""
    values = sorted(point["value"] for point in points)
    one = next(point["median_ms"] for point in points if point["value"] == 1)
    panel.plot(values, [one * value for value in values], "--", color="tab:gray", label="as many single steps")
    panel.set_xticks(values, labels=[str(value) for value in values])
    panel.set_xticks([], minor=True)
