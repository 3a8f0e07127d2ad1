"""Pictures of one run: filters, weights and log_alpha of the first layer, and the course of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pyro_vd import Posterior
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.spec import Spec

__all__ = ["draw_run", "draw_training"]

Row = Mapping[str, Any]  # of a history
NUM_UNITS = 40  # units that are drawn, largest norm first
ALPHA_RANGE = (-8.0, 8.0)


def draw_run(posterior: Posterior, spec: Spec, history: Sequence[Row], stem: Path) -> None:
    """Writes ``stem-filters.png``, ``stem-heatmap.png`` and ``stem-training.png``."""
    site = next(iter(posterior.model.priors))
    panels = _panels(posterior, site)
    title = f"{_title(spec)}: {site}"
    save_figure(_filters(panels, title), f"{stem}-filters.png")
    save_figure(_heatmap(panels, title), f"{stem}-heatmap.png")
    draw_training(spec, history, Path(f"{stem}-training.png"))


def _title(spec: Spec) -> str:
    return f"{spec.network}, {spec.method}, {spec.data.name}, seed {spec.seed}"


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


def draw_training(spec: Spec, history: Sequence[Row], path: Path) -> None:
    """Error and sparsity, log likelihood and KL over the epochs of the main phase. Draws only what the history has, and
    nothing without errors."""
    rows = [row for row in history if row["phase"] == "fit"]
    if not rows or "error" not in rows[-1]:
        return
    epochs = [row["epoch"] + 1 for row in rows]
    measured = [row for row in rows if "error" in row]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot([row["epoch"] + 1 for row in measured], [100 * row["error"] for row in measured], color="black")
    left.set(xlabel="epoch", ylabel="test error, %", yscale="log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    if any(row.get("sparsity") for row in measured):
        twin = left.twinx()
        sparsities = [100 * row["sparsity"] for row in measured]
        twin.plot([row["epoch"] + 1 for row in measured], sparsities, color=color_of(spec.method))
        twin.set_ylabel("weights pruned, %", color=color_of(spec.method))
        twin.spines["right"].set_visible(True)
    right.plot(epochs, [-row["log_likelihood"] for row in rows], color="black")
    misfit, weighted = -rows[-1]["log_likelihood"], [row["beta"] * row["kl"] or None for row in rows]
    last = next((value for value in reversed(weighted) if value), 0.0)
    sides = ("bottom", "top") if misfit > last else ("top", "bottom")  # the upper one's label is above it
    right.annotate("- log likelihood", (epochs[-1], misfit), ha="right", va=sides[0])
    if last:
        right.plot(epochs, weighted, color=color_of(spec.method))
        right.annotate("KL weight x KL", (epochs[-1], last), ha="right", va=sides[1], color=color_of(spec.method))
    right.set(xlabel="epoch", ylabel="nats per example", yscale="log")
    figure.suptitle(_title(spec), fontsize=11)
    save_figure(figure, path)


def _symmetric(values: torch.Tensor) -> tuple[float, float]:
    limit = float(values.abs().quantile(0.999)) if values.numel() < 1e7 else float(values.abs().max())
    return -max(limit, 1e-6), max(limit, 1e-6)


def _as_image(unit: torch.Tensor) -> torch.Tensor:
    """The weights of a unit as an image: the first channel of a filter; a row as a square if its length is square."""
    if unit.ndim > 1:
        return unit.flatten(0, -3)[0] if unit.ndim > 2 else unit
    side = int(unit.numel() ** 0.5)
    return unit.reshape(side, side) if side * side == unit.numel() else unit.reshape(1, -1)
