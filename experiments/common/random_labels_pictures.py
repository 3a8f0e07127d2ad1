"""Pictures of experiments.random_labels."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.store import Run

__all__ = ["draw_shares", "draw_weights"]

Points = Mapping[str, Mapping[float, Sequence[Run]]]
"""Row -> place on the axis -> runs that did not diverge."""
PANELS: dict[str, tuple[str, Callable[[float], float]]] = {
    "train_error": ("error on the training labels, %", lambda error: 100 * error),
    "test_error": ("test error, %", lambda error: 100 * error),
    "sparsity": ("weights left, %", lambda sparsity: 100 * (1 - sparsity)),  # of schemes with log_alpha
}


def draw_shares(points: Points, path: Path) -> None:
    """Errors and sparsity against the share of shuffled labels, a line per scheme."""
    _draw(points, "training labels shuffled, %", "linear", path)


def draw_weights(points: Points, path: Path) -> None:
    """Errors and sparsity against the weight of the KL with all labels shuffled, a line per scheme."""
    _draw(points, "weight of the KL, all labels shuffled", "log", path)


def _draw(points: Points, label: str, scale: str, path: Path) -> None:
    """A panel per quantity that was measured; no picture if none was."""
    panels = {key: lines for key in PANELS if (lines := _select(points, key))}
    if not panels:
        return
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, 3.2 * len(panels)), layout="constrained", squeeze=False)
    for axis, (key, lines) in zip(axes[:, 0], panels.items(), strict=True):
        name, convert = PANELS[key]
        for row, places in lines.items():
            means = [statistics.mean(convert(run[key]) for run in runs) for runs in places.values()]
            color = color_of(next(iter(places.values()))[0].spec.method)
            axis.plot(list(places), means, "o-", color=color, label=row)
        axis.set(xlabel=label, ylabel=name)
        _set_scale(axis, scale, [at for places in lines.values() for at in places])
        if key == "sparsity":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
        else:
            axis.set_ylim(-3, 103)
        axis.grid(alpha=0.3)
        label_lines(axis)
    save_figure(figure, path)


def _select(points: Points, key: str) -> dict[str, dict[float, list[Run]]]:
    """The rows, places and runs that have a number ``key``, in the order of the places."""
    found = {
        row: {at: good for at, runs in sorted(places.items()) if (good := [run for run in runs if key in run.record])}
        for row, places in points.items()
    }
    return {row: places for row, places in found.items() if places}


def _set_scale(axis: Axes, scale: str, places: Sequence[float]) -> None:
    """Sets the scale of the places; a logarithmic one is linear below the least positive place, to show 0."""
    if scale == "log" and min(places) == 0 < max(places):
        axis.set_xscale("symlog", linthresh=min(at for at in places if at))
    else:
        axis.set_xscale(scale)
    axis.xaxis.set_major_formatter("{x:g}")
