"""Pictures of a run and of a set of runs, drawn from the posterior and from records."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator

from pyro_vd import Posterior
from pyro_vd.experiments.common.plotting import plt, save_figure
from pyro_vd.experiments.common.published import Published, published_for
from pyro_vd.experiments.common.records import Record

__all__ = ["draw_curves", "draw_run", "draw_training"]

NUM_UNITS = 40  # units that are drawn, largest norm first
ALPHA_RANGE = (-8.0, 8.0)


def draw_run(posterior: Posterior, record: Record, stem: Path) -> None:
    """Writes ``stem-filters.png``, ``stem-heatmap.png`` and ``stem-training.png``."""
    site = next(iter(posterior.model.priors))
    panels = _panels(posterior, site)
    title = f"{record['network']}, {record['scheme']}, {record['dataset']}, seed {record['seed']}: {site}"
    save_figure(_filters(panels, title), f"{stem}-filters.png")
    save_figure(_heatmap(panels, title), f"{stem}-heatmap.png")
    draw_training(record, Path(f"{stem}-training.png"))


@dataclass(frozen=True)
class Panel:
    """One quantity of the weights of a layer, with its color map and limits."""

    name: str
    values: torch.Tensor
    colors: str
    limits: tuple[float, float]


def _panels(posterior: Posterior, site: str) -> list[Panel]:
    """The posterior mean, then log_alpha if the scheme has one."""
    theta = posterior.mean().get_parameter(site).detach().cpu()
    mean = Panel("posterior mean", theta, "RdBu_r", _symmetric(theta))
    try:
        log_alpha = posterior.log_alpha()[site].cpu().clamp(*ALPHA_RANGE)  # a mean of exactly 0 has +inf
    except TypeError:
        return [mean]
    return [mean, Panel("log alpha (dark: kept)", log_alpha, "magma", ALPHA_RANGE)]


def _filters(panels: list[Panel], title: str) -> Figure:
    theta = panels[0].values
    order = theta.flatten(1).norm(dim=1).argsort(descending=True)[:NUM_UNITS]
    columns = 10
    rows = -(-len(order) // columns)
    figure = plt.figure(figsize=(columns * 0.95 * len(panels), rows * 0.95 + 0.9), layout="constrained")
    parts = figure.subfigures(1, len(panels), squeeze=False)[0]
    for part, panel in zip(parts, panels, strict=True):
        axes = part.subplots(rows, columns)
        for axis in axes.flat:
            axis.axis("off")
        for axis, unit in zip(axes.flat, order.tolist(), strict=False):
            image = _show(axis, panel, _as_image(panel.values[unit]))
        part.colorbar(image, ax=axes, shrink=0.6, location="bottom", aspect=40)
        part.suptitle(f"{panel.name}, {len(order)} strongest of {len(theta)} units", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _heatmap(panels: list[Panel], title: str) -> Figure:
    figure, axes = plt.subplots(len(panels), 1, figsize=(10, 3.4 * len(panels)), layout="constrained", squeeze=False)
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        image = _show(axis, panel, panel.values.flatten(1), aspect="auto", interpolation="nearest")
        axis.set(xlabel="input", ylabel="unit", title=panel.name)
        figure.colorbar(image, ax=axis)
    figure.suptitle(title, fontsize=11)
    return figure


def _show(axis: Axes, panel: Panel, values: torch.Tensor, **options: Any) -> AxesImage:
    low, high = panel.limits
    return axis.imshow(values.numpy(), cmap=panel.colors, vmin=low, vmax=high, **options)


def draw_training(record: Record, path: Path) -> None:
    """Error and sparsity, log likelihood and KL over the epochs; draws nothing if the history lacks them."""
    history = record["history"]
    if not history or not {"accuracy", "sparsity"} <= history[-1].keys():
        return
    epochs = [row["epoch"] + 1 for row in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(epochs, [100 * (1 - row["accuracy"]) for row in history])
    left.set(xlabel="epoch", ylabel="error of the pruned mean, %", yscale="log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    twin = left.twinx()
    twin.plot(epochs, [100 * row["sparsity"] for row in history], color="tab:orange")
    twin.set_ylabel("weights pruned, %", color="tab:orange")
    right.plot(epochs, [-row["log_likelihood"] for row in history], label="- log likelihood")
    right.plot(epochs, [row["beta"] * row["kl"] or None for row in history], label="KL weight x KL")
    right.set(xlabel="epoch", ylabel="nats per example", yscale="log")
    right.legend(frameon=False)
    figure.suptitle(f"{record['network']}, {record['scheme']}, {record['dataset']}, seed {record['seed']}", fontsize=11)
    save_figure(figure, path)


def draw_curves(records: list[Record], path: Path) -> None:
    """Error against compression, a panel per network and dataset.

    A run is a line over thresholds and a mark for its own threshold after fine-tuning; black marks are published.
    """
    drawn = [record for record in records if not record["diverged"] and record["scheme"] != "none"]
    panels = [list(runs) for _, runs in itertools.groupby(sorted(drawn, key=_panel_key), key=_panel_key)]
    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(8 * len(panels), 8), layout="constrained", squeeze=False)
    for axis, runs in zip(axes[0], panels, strict=True):
        _draw_panel(axis, runs)
    save_figure(figure, path)


def _panel_key(record: Record) -> tuple[str, str]:
    return record["network"], record["dataset"]


def _draw_panel(axis: Axes, records: list[Record]) -> None:
    colors = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    styles = itertools.cycle(itertools.product("os^D", colors))  # forty different ones
    for label, runs in itertools.groupby(sorted(records, key=_label), key=_label):
        marker, color = next(styles)
        for record in runs:
            points = [point for point in record["curve"] if point["compression"]]
            axis.plot([p["compression"] for p in points], [100 * p["error"] for p in points], color=color, alpha=0.5)
            if record["compression"]:
                axis.plot(record["compression"], 100 * record["test_error"], marker, color=color)
        axis.plot([], [], f"{marker}-", color=color, label=label)
    stars = [point for point in published_for(records[0]) if point.scheme != "none"]
    _draw_published(axis, stars)
    left = [record for record in records if record["compression"]]
    own = [record["test_error"] for record in left]
    best = min([*own, *(star.error for star in stars)], default=0.1)
    highest = max(error for error in [1.6 * best, *own] if error <= 4 * best)  # the lines continue above
    axis.set(xscale="log", xlabel="weights / non-zero weights", ylabel="test error of the pruned mean, %")
    axis.set_ylim(85 * best, max(105 * highest, 0.1))
    ratios = [*(record["compression"] for record in left), *(star.compression for star in stars)]
    axis.set_xlim(0.8 * min(ratios, default=1), 1.5 * max(ratios, default=1))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.grid(alpha=0.3, which="both")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.09))
    axis.set_title(
        f"{records[0]['network']} on {records[0]['dataset']}; a line per run over thresholds, mark: deployed network"
    )


def _label(record: Record) -> str:
    return f"{record['scheme']}, {record['protocol'].removeprefix('variant of ').removeprefix('headline: ')}"


def _draw_published(axis: Axes, published: list[Published]) -> None:
    for point, marker in zip(published, itertools.cycle("*PXD")):
        axis.plot(point.compression, 100 * point.error, marker, color="black", markersize=9,
                  label=f"{point.scheme}, {point.kind}", linestyle="none", zorder=3)  # fmt: skip


def _symmetric(values: torch.Tensor) -> tuple[float, float]:
    limit = float(values.abs().quantile(0.999)) if values.numel() < 1e7 else float(values.abs().max())
    return -max(limit, 1e-6), max(limit, 1e-6)


def _as_image(unit: torch.Tensor) -> torch.Tensor:
    """The weights of a unit as an image: the first channel of a filter; a row as a square if its length is square."""
    if unit.ndim > 1:
        return unit.flatten(0, -3)[0] if unit.ndim > 2 else unit
    side = int(unit.numel() ** 0.5)
    return unit.reshape(side, side) if side * side == unit.numel() else unit.reshape(1, -1)
