"""Pictures of the benchmarks, drawn from records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from pyro_vd.experiments.common.environment import hardware
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.records import Record

__all__ = ["AXES", "draw_inference", "draw_scaling", "draw_step", "title_of"]

OURS, OTHERS = color_of("sparse"), color_of("none")
AXES = {"weights": "weights", "batch": "batch size", "seeds": "seeds at once"}
"""Axis of a record of scaling -> what it is."""
FORMS = {
    "shrunk": "#d55e00",
    "sparse, SciPy": "#e69f00",
    "ONNX, shrunk": "#0072b2",
    "ONNX, shrunk, all in int8": "#56b4e9",
}
"""The drawn forms of a compressed network and their colors, which are not those of schemes."""


def title_of(record: Record) -> str:
    """One line that says which step was measured and where."""
    return f"{record['network']}, {record['weights']:,} weights, batch {record['batch_size']}, {hardware(record)}"


def draw_step(record: Record, path: Path) -> None:
    """A bar per column, fastest first, with its interval; ours has another color."""
    columns = sorted(record["columns"].items(), key=lambda item: -item[1]["median_ms"])
    names = [name for name, _ in columns]
    medians = np.array([numbers["median_ms"] for _, numbers in columns])
    low, high = np.array([numbers["interval_ms"] for _, numbers in columns]).T
    colors = [OURS if name.startswith("ours") else OTHERS for name in names]
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    bars = axis.barh(names, medians, xerr=[medians - low, high - medians], color=colors, capsize=3)
    axis.bar_label(bars, fmt="{:,.4g}", padding=6, fontsize=9)
    axis.set(xlabel="milliseconds per step (median; line: 95 % interval)", xlim=(0, 1.18 * high.max()))
    figure.suptitle(title_of(record), fontsize=9)
    save_figure(figure, path)


def draw_scaling(record: Record, path: Path) -> None:
    """Milliseconds per step, a panel per measured axis, a line per column; ours have another color."""
    points = record["points"]
    axes = [axis for axis in AXES if any(point["axis"] == axis for point in points)]
    figure, panels = plt.subplots(len(axes), 1, figsize=(8, 3.3 * len(axes)), layout="constrained", squeeze=False)
    for panel, axis in zip(panels[:, 0], axes, strict=True):
        lines = _find_lines([point for point in points if point["axis"] == axis])
        panel.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel="milliseconds per step")
        if axis == "seeds":
            values = list(next(iter(lines.values())))
            one = next(iter(lines.values()))[1]
            lines["as many single steps"] = {value: one * value for value in values}
            panel.set_xticks(values, labels=[str(value) for value in values])
            panel.set_xticks([], minor=True)
        _draw_lines(panel, lines)
    figure.suptitle(hardware(record), fontsize=9)
    save_figure(figure, path)


def _find_lines(points: Sequence[Record]) -> dict[str, dict[int, float]]:
    """Column -> value on the axis -> milliseconds."""
    lines = {}
    for column in dict.fromkeys(point["column"] for point in points):
        line = {point["value"]: point["median_ms"] for point in points if point["column"] == column}
        lines[column] = dict(sorted(line.items()))
    return lines


def _draw_lines(panel: Axes, lines: Mapping[str, Mapping[int, float]]) -> None:
    """Draws the lines with their names beside their ends; names whose lines end together are moved apart."""
    styles = {color: cycle(("-", "--", ":", "-.")) for color in (OURS, OTHERS)}
    colors = {name: OURS if name.startswith("ours") else OTHERS for name in lines}
    for name, line in lines.items():
        panel.plot(list(line), list(line.values()), "o", linestyle=next(styles[colors[name]]), color=colors[name],
                   markersize=4)  # fmt: skip
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    low, high = panel.get_ylim()
    distance, last = (high / low) ** 0.07, 0.0
    for name, line in sorted(lines.items(), key=lambda item: item[1][max(item[1])]):
        end = max(line)
        last = max(line[end], last * distance)
        panel.annotate(name, (end, last), xytext=(6, 0), textcoords="offset points", va="center", fontsize=10,
                       color=colors[name], annotation_clip=False)  # fmt: skip


def draw_inference(records: Sequence[Record], path: Path) -> None:
    """How many times faster than dense the forms of each network are, a panel per batch size, a row per network."""
    rows, sizes = range(len(records)), list(records[0]["columns"]["dense"])
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(2.6 + 2.8 * len(sizes), 0.3 * len(records) + 1.4), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for panel, size in zip(panels[0], sizes, strict=True):
        for form, color in FORMS.items():
            faster = [record["columns"][form][size]["times_faster"] for record in records]
            panel.plot(faster, rows, "o", color=color, markersize=5, label=form)
        panel.axvline(1, color="gray", linewidth=1)
        panel.set(xscale="log", xlabel=f"times faster than dense, batch {size}")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.grid(axis="y", alpha=0.3)
    panels[0, 0].set_yticks(rows, labels=_name_networks(records), fontsize=9)
    panels[0, 0].invert_yaxis()
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(FORMS), labelcolor="linecolor")
    save_figure(figure, path)


def _name_networks(records: Sequence[Record]) -> list[str]:
    """Network, scheme and compression, and the parts of the training in which networks of the same name differ."""
    names = [f"{record['network']}, {record['scheme']}, {record['compression']:.0f}x" for record in records]
    trainings = [record["training"].split(", ") for record in records]
    shared = {
        name: set.intersection(*(set(parts) for other, parts in zip(names, trainings, strict=True) if other == name))
        for name in names
    }
    return [
        ", ".join([name, *(part for part in parts if part not in shared[name])])
        for name, parts in zip(names, trainings, strict=True)
    ]
