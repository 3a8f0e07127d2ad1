"""The picture of error against compression of many runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from pyro_vd.experiments.common.compression_tables import group_panels, group_runs, published_results
from pyro_vd.experiments.common.direct_labels import FONT_SIZE, Label, label_points
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.published import Result
from pyro_vd.experiments.common.store import Run

__all__ = ["MARKS", "draw_curves", "draw_mean", "draw_star", "format_ticks"]

MARKS = "os^Dvp"  # of the groups of one scheme


def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Error against compression, a panel per network and dataset; draws nothing if nothing was pruned.

    A row of the table is a mark at the mean of its deployed networks, with bars of one standard deviation over seeds
    and the number of the row beside it. A run is a thin line over thresholds. Stars are published.
    """
    panels = {key: those for key, those in group_panels(runs).items() if any(_is_pruned(run) for run in those)}
    if not panels:
        return
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, 5.6 * len(panels) + 0.5), layout="constrained", squeeze=False
    )
    drawn = {
        axis: _draw_panel(axis, " on ".join(key), those)
        for axis, (key, those) in zip(axes[:, 0], panels.items(), strict=True)
    }
    figure.suptitle(
        "marks: means of the deployed networks of row (n), bars: standard deviations over seeds\n"
        "thin lines: other thresholds, one line per run; stars: published", fontsize=FONT_SIZE,
    )  # fmt: skip
    figure.canvas.draw()  # the places of the points, for the labels
    for axis, labels in drawn.items():
        label_points(axis, labels)
    save_figure(figure, path)


def _is_pruned(run: Run) -> bool:
    return not run.diverged and run.spec.method != "none"


def _draw_panel(axis: Axes, title: str, runs: Sequence[Run]) -> list[Label]:
    """Draws lines and marks, and returns their labels."""
    labels: list[Label] = []
    marks: dict[str, cycle[str]] = {}
    drawn = [run for run in runs if _is_pruned(run)]
    for number, group in enumerate(group_runs(runs), start=1):
        method = group[0].spec.method
        mark = next(marks.setdefault(method, cycle(MARKS)))
        ends = [
            (run["compression"], 100 * run["test_error"]) for run in group if _is_pruned(run) and run["compression"]
        ]
        for run in group if ends else ():
            points = [point for point in run.record["curve"] or () if point["compression"]]
            axis.plot([p["compression"] for p in points], [100 * p["error"] for p in points], color=color_of(method),
                      alpha=0.35, linewidth=0.6)  # fmt: skip
        if ends:
            places = draw_mean(axis, ends, mark, color_of(method))
            labels.append(Label(f"{method} ({number})", color_of(method), places))
    stars = [star for star in published_results(runs[0]) if star.method != "none"]
    labels += _draw_published(axis, stars)
    _set_limits(axis, drawn, stars)
    axis.set_title(title, fontsize=FONT_SIZE)
    return labels


def draw_mean(axis: Axes, ends: Sequence[tuple[float, float]], mark: str, color: str) -> list[tuple[float, float]]:
    """Draws the mean with bars of one standard deviation; returns the ends of the bars, then the mean."""
    x, y = (statistics.mean(values) for values in zip(*ends, strict=True))
    wide, high = (statistics.stdev(values) if len(ends) > 1 else 0.0 for values in zip(*ends, strict=True))
    axis.errorbar(x, y, xerr=wide or None, yerr=high or None, fmt=mark, color=color, elinewidth=1, capsize=2)
    return [(x - wide, y), (x + wide, y), (x, y - high), (x, y + high), (x, y)]


def _set_limits(axis: Axes, runs: Sequence[Run], stars: Sequence[Result]) -> None:
    own = [run["test_error"] for run in runs if run["compression"]]
    best = min([*own, *(star.values["error"] for star in stars)], default=0.1)
    highest = max(error for error in [1.6 * best, *own] if error <= 4 * best)  # the lines continue above
    axis.set(xscale="log", xlabel="weights / non-zero weights", ylabel="test error of the pruned mean, %")
    axis.set_ylim(85 * best, min(max(105 * highest, 0.1), 100))
    ratios = [run["compression"] for run in runs if run["compression"]] + [star.values["compression"] for star in stars]
    axis.set_xlim(0.8 * min(ratios, default=1), 1.8 * max(ratios, default=1))
    format_ticks(axis)


def _draw_published(axis: Axes, published: Sequence[Result]) -> list[Label]:
    labels = []
    for star in published:
        place = star.values["compression"], 100 * star.values["error"]
        draw_star(axis, place)
        labels.append(Label(f"{star.method}, {star.kind}", "black", [place]))
    return labels


def format_ticks(axis: Axes) -> None:
    """Plain numbers on a logarithmic x axis, and a grid."""
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.grid(alpha=0.3, which="both")


def draw_star(axis: Axes, place: tuple[float, float]) -> None:
    """The mark of a published result."""
    axis.plot(*place, "*", color="black", markersize=10, zorder=3)
