"""Names at the right ends of lines and beside points, instead of a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

__all__ = ["FONT_SIZE", "Label", "label_lines", "label_points", "spread"]

FONT_SIZE = 10  # points
LINE_HEIGHT = 1.3
LETTER_WIDTH = 5.3  # points
PLACES = [(side, sign * up) for up in range(0, 200, 5) for side in (8, -8) for sign in (1, -1)]
"""Offsets of a label from its point in points, nearest first."""


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


@dataclass(frozen=True)
class Label:
    """A text for some points; it stands beside the last.

    Attributes:
        points: in the coordinates of the data.
    """

    text: str
    color: str
    points: Sequence[tuple[float, float]]


def label_points(axis: Axes, labels: Sequence[Label]) -> None:
    """Writes each label at the nearest place beside its point where it covers no mark and no other label.

    Call it after the canvas is drawn.
    """
    scale = axis.figure.dpi / 72  # pixels per point
    points = [axis.transData.transform(point) for label in labels for point in label.points]
    taken = [Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in points]
    for label in sorted(labels, key=lambda label: label.points[-1]):
        x, y = axis.transData.transform(label.points[-1])
        width, height = LETTER_WIDTH * len(label.text) * scale, LINE_HEIGHT * FONT_SIZE * scale
        for right, up in PLACES:
            left = x + (right * scale if right > 0 else right * scale - width)
            box = Bbox.from_bounds(left, y + up * scale - height / 2, width, height)
            if (
                not box.count_overlaps(taken)
                and axis.bbox.fully_contains(box.x0, box.y0)
                and axis.bbox.fully_contains(box.x1, box.y1)
            ):
                break
        taken.append(box)
        axis.annotate(
            label.text, label.points[-1], xytext=(right, up), textcoords="offset points", fontsize=FONT_SIZE,
            color=label.color, ha="left" if right > 0 else "right", va="center",
            arrowprops={"arrowstyle": "-", "relpos": (right < 0, 0.5), "color": label.color, "linewidth": 0.5}
            if abs(up) > 10 else None,
        )  # fmt: skip
