"""Pictures of experiments.landscape: bands as in figure 4 of Santurkar et al. 2018, and lines of the schemes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pyro_vd.experiments.common.direct_labels import label_lines
from pyro_vd.experiments.common.landscape_runs import WITH, WITHOUT, LandscapeSpec, Rows
from pyro_vd.experiments.common.landscape_tables import (
    MEASURES,
    Bands,
    average_bands,
    find_bands_along,
    find_bands_between,
    find_learning_rates,
    find_rows,
    find_schemes,
)
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.store import Store

__all__ = ["draw_bands", "draw_schemes"]

COLORS = {WITHOUT: "#d62728", WITH: "#1f77b4"}
WINDOW = 15  # measurements that a line of draw_schemes averages


def draw_bands(rows: Rows, store: Store, path: Path) -> None:
    """A row per measure; on the left its range along the gradient of one network, on the right its range between
    networks that were trained at several learning rates. Means over seeds; no picture without such runs."""
    along, between = {}, {}
    for network, specs in rows.items():
        if runs := find_rows(specs, store).get("none"):
            along[network] = average_bands([find_bands_along(run) for run in runs])
        if groups := find_learning_rates(specs, store):
            between[network] = average_bands([find_bands_between(runs) for runs in groups])
    columns = {"along the gradient, from one network": along, "between four learning rates": between}
    columns = {title: bands for title, bands in columns.items() if bands}
    if not columns:
        return
    figure, panels = _make_panels(columns)
    for title, bands in columns.items():
        for measure, axis in panels[title].items():
            _draw_measure(axis, bands, measure)
    save_figure(figure, path)


def _make_panels(titles: Collection[str]) -> tuple[Figure, dict[str, dict[str, Axes]]]:
    """A figure with a column per title and a row per measure, and title -> measure -> the axes."""
    figure, axes = plt.subplots(
        len(MEASURES), len(titles), figsize=(7 * len(titles), 9), sharex=True, layout="constrained", squeeze=False
    )
    for title, column in zip(titles, axes.T, strict=True):
        column[0].set_title(title, fontsize=11)
        column[-1].set_xlabel("training step")
    return figure, {
        title: dict(zip(MEASURES, column, strict=True)) for title, column in zip(titles, axes.T, strict=True)
    }


def _draw_measure(axis: Axes, bands: Mapping[str, Bands], measure: str) -> None:
    """The filled bands of one measure, an edge line and a label on each."""
    for network, band in bands.items():
        color = COLORS[network]
        axis.fill_between(band.steps, band.low[measure], band.high[measure], color=color, alpha=0.35, linewidth=0)
        axis.plot(band.steps, band.high[measure], color=color, linewidth=0.6, label=network)
    _finish(axis, MEASURES[measure])


def _finish(axis: Axes, name: str) -> None:
    """A logarithmic scale with plain numbers, a grid, and the names of the lines."""
    axis.set(ylabel=name, yscale="log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)
    label_lines(axis)


def draw_schemes(rows: Rows, store: Store, path: Path) -> None:
    """A row per measure and a column per network: a line per scheme, a running mean over measurements and seeds of the
    width of the range of the loss, and of the largest change along the gradient; no picture without runs."""
    found = {network: _average_schemes(specs, store) for network, specs in rows.items()}
    found = {network: schemes for network, schemes in found.items() if schemes}
    if not found:
        return
    figure, panels = _make_panels(found)
    for network, schemes in found.items():
        for measure, axis in panels[network].items():
            for name, (scheme, band) in schemes.items():
                low = band.low[measure] if measure == "loss" else 0.0
                axis.plot(*_smooth(band.steps, band.high[measure] - low), color=color_of(scheme), label=name)
            _finish(axis, ("range of the " if measure == "loss" else "largest ") + MEASURES[measure])
    save_figure(figure, path)


def _average_schemes(specs: Mapping[str, LandscapeSpec], store: Store) -> dict[str, tuple[str, Bands]]:
    """Row -> its scheme and its bands along the gradient, for the rows at the main learning rate."""
    return {
        name: (runs[0].spec.fit.scheme, average_bands([find_bands_along(run) for run in runs]))
        for name, runs in find_schemes(specs, store).items()
    }


def _smooth(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Running means of both."""
    window = min(WINDOW, len(values))
    kernel = np.full(window, 1 / window)
    return np.convolve(steps, kernel, "valid"), np.convolve(values, kernel, "valid")
