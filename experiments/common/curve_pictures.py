"""The picture of error against compression of many runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from pyro_vd.experiments.common.compression_tables import group_runs, network_name, published_results
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.published import Result
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import group_by

__all__ = ["draw_curves"]

MARKS = "os^Dvp"  # of the groups of one scheme


def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Error against compression, a panel per network and dataset; draws nothing if nothing was pruned.

    A run is a line over thresholds and a mark for the deployed network; the number beside the marks is the row of the
    table. Black stars are published.
    """
    panels = group_by(runs, lambda run: (network_name(run), run["dataset"]))
    panels = {key: those for key, those in panels.items() if any(_is_pruned(run) for run in those)}
    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(8 * len(panels), 6), layout="constrained", squeeze=False)
    for axis, (key, those) in zip(axes[0], panels.items(), strict=True):
        _draw_panel(axis, " on ".join(key), those)
    save_figure(figure, path)


def _is_pruned(run: Run) -> bool:
    return not run.diverged and run.spec.method != "none"


def _draw_panel(axis: Axes, title: str, runs: Sequence[Run]) -> None:
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
                      alpha=0.4, linewidth=1)  # fmt: skip
        if ends:
            axis.plot(*zip(*ends, strict=True), mark, color=color_of(method), linestyle="none")
            axis.annotate(f"{method} ({number})", max(ends), xytext=(6, 4), textcoords="offset points", fontsize=8,
                          color=color_of(method))  # fmt: skip
    stars = [star for star in published_results(runs[0]) if star.method != "none"]
    _draw_published(axis, stars)
    _set_limits(axis, drawn, stars)
    axis.set_title(f"{title}; lines over thresholds, marks: deployed; (n): row n of the table", fontsize=10)


def _set_limits(axis: Axes, runs: Sequence[Run], stars: Sequence[Result]) -> None:
    own = [run["test_error"] for run in runs if run["compression"]]
    best = min([*own, *(star.values["error"] for star in stars)], default=0.1)
    highest = max(error for error in [1.6 * best, *own] if error <= 4 * best)  # the lines continue above
    axis.set(xscale="log", xlabel="weights / non-zero weights", ylabel="test error of the pruned mean, %")
    axis.set_ylim(85 * best, max(105 * highest, 0.1))
    ratios = [run["compression"] for run in runs if run["compression"]] + [star.values["compression"] for star in stars]
    axis.set_xlim(0.8 * min(ratios, default=1), 1.8 * max(ratios, default=1))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.grid(alpha=0.3, which="both")


def _draw_published(axis: Axes, published: Sequence[Result]) -> None:
    for star in published:
        place = star.values["compression"], 100 * star.values["error"]
        axis.plot(*place, "*", color="black", markersize=10, zorder=3)
        axis.annotate(f"{star.method}, {star.kind}", place, xytext=(6, -11), textcoords="offset points", fontsize=8)
