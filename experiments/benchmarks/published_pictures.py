"""Error against weights and against bytes: our compressed networks among the published ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes

from pyro_vd.experiments.benchmarks.compact import group_networks
from pyro_vd.experiments.common.compression_tables import group_panels, group_runs
from pyro_vd.experiments.common.curve_pictures import MARKS, draw_mean, draw_star, format_ticks
from pyro_vd.experiments.common.direct_labels import FONT_SIZE, Label, label_points
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.published import REFERENCE, Result, results
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import group_by

__all__ = ["draw_bytes", "draw_weights"]

LEAST = 10.0  # weights / non-zero weights
HIGHEST = 1.7  # times the least error of a panel; published results above it are left out
Point = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """Means of one row of a table over its seeds, at one or several places.

    Attributes:
        places: what is compared, and errors in %: a point per seed.
    """

    name: str
    method: str
    places: Sequence[Sequence[Point]]


def draw_weights(runs: Sequence[Run], path: Path) -> None:
    """Error against weights / non-zero weights, a panel per network. ``runs`` are those of mnist_compress."""
    panels = {}
    for (network, dataset), those in group_panels(runs).items():
        rows = []
        for number, group in enumerate(group_runs(those), start=1):
            points = [(run["compression"], 100 * run["test_error"]) for run in group if run["compression"]]
            points = [point for point in points if point[0] >= LEAST]
            if points and not any(run.diverged for run in group):
                rows.append(Row(f"{group[0].spec.method} ({number})", group[0].spec.method, [points]))
        panels[network] = rows, find_stars(dataset, network, "compression")
    _draw(panels, "weights / non-zero weights", "compression", "row (n)", path)


def draw_bytes(records: Sequence[Record], path: Path) -> None:
    """Error against the bytes of a compact file, a panel per network: a line through the tolerances of the grids.
    ``records`` are those of the benchmark of compact files."""
    rows: dict[str, list[Row]] = {}
    for number, ((network, scheme, _), group) in enumerate(group_networks(records).items(), start=1):
        if group[0].get("validation"):  # no error of test images
            continue
        found = [row for record in group for row in record["rows"]]
        tuned = max(row["epochs"] for row in found)
        places = group_by((row for row in found if row["epochs"] == tuned), lambda row: row["tolerance"])
        points = [[(row["bytes"], 100 * row["test_error"]) for row in those] for _, those in sorted(places.items())]
        rows.setdefault(network, []).append(Row(f"{scheme} ({number})", scheme, points))
    panels = {network: (own, find_stars("mnist", network, "bytes")) for network, own in rows.items()}
    _draw(panels, "bytes of the file", "bytes", "network (n) of the benchmark", path)


def find_stars(dataset: str, network: str, quantity: str) -> list[Result]:
    """Published results with this quantity and an error. Of several sources of one result the first one counts."""
    found: dict[tuple[object, ...], Result] = {}
    for result in results(dataset=dataset, network=network):
        known = {"error", quantity} <= result.values.keys() and result.method != "none"
        if known and result.values.get("compression", LEAST) >= LEAST:
            found.setdefault((result.method, result.values["error"], result.values[quantity]), result)
    return list(found.values())


def _draw(
    panels: dict[str, tuple[list[Row], list[Result]]], axis_label: str, quantity: str, marked: str, path: Path
) -> None:
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, 6.2 * len(panels) + 0.5), layout="constrained", squeeze=False
    )
    drawn = {}
    for axis, (network, (rows, stars)) in zip(axes[:, 0], panels.items(), strict=True):
        drawn[axis] = [*_draw_rows(axis, rows), *_draw_stars(axis, stars, quantity, rows)]
        axis.set(xscale="log", xlabel=axis_label, ylabel="test error, %")
        axis.set_title(f"{network} on MNIST", fontsize=FONT_SIZE)
        format_ticks(axis)
    figure.suptitle(
        f"marks: means of {marked}, bars: standard deviations over seeds; stars: published", fontsize=FONT_SIZE
    )
    figure.canvas.draw()  # the places of the points, for the labels
    for axis, labels in drawn.items():
        label_points(axis, labels)
    save_figure(figure, path)


def _draw_rows(axis: Axes, rows: Iterable[Row]) -> list[Label]:
    labels = []
    marks: dict[str, cycle[str]] = {}
    for row in rows:
        mark, color = next(marks.setdefault(row.method, cycle(MARKS))), color_of(row.method)
        places = [place for points in row.places for place in draw_mean(axis, points, mark, color)]
        means = [tuple(statistics.mean(values) for values in zip(*points, strict=True)) for points in row.places]
        axis.plot(*zip(*means, strict=True), color=color, linewidth=0.8)
        labels.append(Label(row.name, color, places))
    return labels


def _draw_stars(axis: Axes, stars: Sequence[Result], quantity: str, rows: Sequence[Row]) -> list[Label]:
    """Draws the published results whose error the panel holds."""
    own = [error for row in rows for points in row.places for _, error in points]
    best = min([*own, *(100 * star.values["error"] for star in stars)])
    places = [(_name(star), (star.values[quantity], 100 * star.values["error"])) for star in stars]
    drawn = [(name, place) for name, place in places if place[1] <= HIGHEST * best]
    for _, place in drawn:
        draw_star(axis, place)
    axis.set_ylim(0.85 * best, 1.05 * max([*own, *(error for _, (_, error) in drawn)]))
    return [Label(name, "black", [place]) for name, place in drawn]


def _name(star: Result) -> str:
    name = star.method
    if star.method in ("sparse", "hierarchical"):  # names of ours
        name += ", reference repository" if star.kind == REFERENCE else f", {star.source.split(',')[0]}"
    return f"{name}, {star.setting}" if star.setting else name
