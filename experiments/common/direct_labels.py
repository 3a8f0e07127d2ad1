"""Names of lines at their right ends, instead of a legend."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

__all__ = ["label_lines", "spread"]

FONT_SIZE = 10  # points
LINE_HEIGHT = 1.3


def label_lines(axis: Axes) -> None:
    """Writes the label of every labeled line beside its last point, in its color; labels do not overlap.

    Call it after the limits and scales of the axis are set.
    """
    lines = [line for line in axis.lines if not str(line.get_label()).startswith("_")]
    if not lines:
        return
    figure = axis.get_figure(root=True)
    assert figure is not None
    axis.autoscale_view()  # else still pending
    ends = np.array([np.asarray(line.get_xydata(), dtype=float)[-1] for line in lines])
    heights = axis.transAxes.inverted().transform(axis.transData.transform(ends))[:, 1]
    gap = LINE_HEIGHT * FONT_SIZE / (72 * figure.get_figheight() * axis.get_position().height)
    for line, end, height in zip(lines, ends, spread(heights, gap), strict=True):
        color = line.get_color()
        axis.annotate(
            str(line.get_label()), tuple(end), (1.04, height), textcoords="axes fraction", va="center",
            fontsize=FONT_SIZE, color=color,
            arrowprops={
                "arrowstyle": "-", "relpos": (0, 0.5), "color": color, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 2,
            },
        )  # fmt: skip


def spread(places: np.ndarray, gap: float) -> np.ndarray:
    """The places nearest to these in least squares that have the same order and differ by at least ``gap``.

    Example:
        >>> spread(np.array([0.5, 0.4, 0.9]), 0.2).round(2).tolist()
        [0.55, 0.35, 0.9]
    """
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    spaced = np.empty(len(places))
    spaced[order] = isotonic_regression(places[order] - steps).x + steps
    return spaced
