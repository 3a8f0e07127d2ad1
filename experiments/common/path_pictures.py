"""Pictures of experiments.dessilbi: accuracy against the share that is pruned, and the first filters."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.path_measures import LAYERS, PATH_KEYS, SHARES
from pyro_vd.experiments.common.path_tables import LINES, Found, find_original, pruned_errors
from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.store import Store

__all__ = ["PICTURES", "draw"]

PICTURES = {
    "pruning.png": "Accuracy against the share of filters and weights that are pruned, ours and the original's",
    "filters.png": "The filters of the first convolution: of SGD, of DessiLBI, and its sparse copy Gamma",
}
"""Name -> what it shows."""
COLORS = {
    "DessiLBI, order of entry": "#d62728",
    "DessiLBI, magnitude": "#ff9896",
    "SGD, magnitude": "#7f7f7f",
    "sparse, log_alpha": "#1f77b4",
}
FILTERS = {
    "SGD: W": ("SGD", "weight"),
    "DessiLBI: W": ("DessiLBI", "weight"),
    "DessiLBI: Gamma": ("DessiLBI", "gamma"),
}


def draw(columns: Columns, store: Store) -> tuple[str, ...]:
    """Draws the pictures of the LeNet in the folder of the runs, and returns the names of those that its runs allow."""
    found = find_runs(store, columns.get("lenet1998", {}), PATH_KEYS)
    found = {row: good for row, runs in found.items() if (good := [run for run in runs if not run.diverged])}
    drawn = []
    if any(row in found for row, _ in LINES.values()):
        _draw_pruning(found, store.folder / "pruning.png")
        drawn.append("pruning.png")
    if all(row in found for row, _ in FILTERS.values()):
        _draw_filters(found, store.folder / "filters.png")
        drawn.append("filters.png")
    return tuple(drawn)


def _draw_pruning(found: Found, path: Path) -> None:
    groups = LAYERS["lenet1998"]
    figure, axes = plt.subplots(len(groups), 1, figsize=(8, 3.6 * len(groups)), layout="constrained", squeeze=False)
    for axis, layers in zip(axes[:, 0], groups, strict=True):
        _draw_lines(axis, layers, found)
        axis.set(xlabel=f"pruned of {layers}, %", ylabel="test accuracy, %")
        axis.grid(alpha=0.3)
        label_lines(axis)
    figure.suptitle("bars: standard deviation over seeds; the original is one run", fontsize=10)
    save_figure(figure, path)


def _draw_lines(axis: Axes, layers: str, found: Found) -> None:
    shares = [100 * share for share in SHARES]
    for line, (row, ranking) in LINES.items():
        if row in found:
            points = [[100 * (1 - error) for error in errors] for errors in pruned_errors(found[row], ranking, layers)]
            bars = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in points]
            means = [statistics.mean(values) for values in points]
            axis.errorbar(shares, means, yerr=bars, fmt="none", color=COLORS[line], elinewidth=1, capsize=2)
            axis.plot(shares, means, "o-", color=COLORS[line], label=line)
    original = [find_original(found, "DessiLBI", f"{layers}, {share:g} %") for share in shares]
    known = [100 * (1 - error) for error in original if error is not None]
    if len(known) == len(shares):
        axis.plot(shares, known, "k*:", label="original, order of entry")


def _draw_filters(found: Found, path: Path) -> None:
    """Of the first seed; blue is negative, red positive, white 0, on one scale for each row."""
    images = {title: np.array(found[row][0]["filters"][key]) for title, (row, key) in FILTERS.items()}
    count = len(next(iter(images.values())))
    figure = plt.figure(figsize=(1.1 * count, 1.45 * len(images)), layout="constrained")
    for part, (title, filters) in zip(figure.subfigures(len(images), squeeze=False)[:, 0], images.items(), strict=True):
        largest = float(np.abs(filters).max())
        part.suptitle(f"{title}, largest |w| {largest:.2g}", fontsize=10, x=0.01, ha="left")
        for axis, image in zip(part.subplots(1, count), filters, strict=True):
            axis.imshow(image, cmap="RdBu_r", vmin=-largest or -1, vmax=largest or 1)
            axis.set(xticks=[], yticks=[])
    save_figure(figure, path)
