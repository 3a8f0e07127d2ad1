"""Pictures of one run: filters, weights and log_alpha of the first layer, the course of its training, and what pruning
keeps of a fully connected network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pyro_vd import Posterior, compress
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.spec import Spec
from pyro_vd.experiments.common.store import Run

__all__ = ["count_per_input", "draw_kept", "draw_run", "draw_training"]

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


def draw_kept(run: Run, path: Path) -> None:
    """Draws the weights that are left at every pixel beside the numbers of weights and bytes before and after.

    Args:
        run: of a network whose first layer reads the pixels of a square image, with its compressed network beside it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4), layout="constrained", width_ratios=(1, 1.5))
    _draw_pixels(left, count_per_input(run))
    _write_numbers(right, run)
    figure.suptitle(f"LeNet-300-100 on MNIST: {100 * run['test_error']:.2f} % error", fontsize=12)
    save_figure(figure, path)


def count_per_input(run: Run) -> torch.Tensor:
    """Non-zero weights of the first layer at every input of the dense network, (inputs,)."""
    make = network_maker(run.spec)
    net = compress.load(run.beside(".safetensors.xz"), make(10))
    dense = next(module for module in make(10).modules() if isinstance(module, torch.nn.Linear))
    first = next(module for module in net.modules() if isinstance(module, torch.nn.Linear))
    counts = torch.zeros(dense.in_features, dtype=torch.long)
    selected = getattr(first, "selected", torch.arange(dense.in_features))
    counts[selected] = first.weight.count_nonzero(0)
    return counts


def _draw_pixels(axis: Axes, counts: torch.Tensor) -> None:
    side = math.isqrt(len(counts))
    image = axis.imshow(counts.reshape(side, side), cmap="magma")
    axis.figure.colorbar(image, ax=axis, shrink=0.8, label="weights left, of 300")
    axis.set_title(f"{int((counts > 0).sum())} of {len(counts)} pixels are read", fontsize=11)
    axis.set_axis_off()


def _write_numbers(axis: Axes, run: Run) -> None:
    """Two rows: what there was, an arrow, what is left."""
    cost = run["deployment"]
    rows = [
        (run["weights"], "weights", run["nonzero"], "that are not 0"),
        (cost["dense_bytes"], "bytes (float32)", cost["forms"]["int8"]["bytes"], "bytes (int8 file, which loads back)"),
    ]
    for height, (before, name, after, what) in zip((0.72, 0.26), rows, strict=True):
        axis.text(0.42, height, f"{before:,}", ha="right", fontsize=18, color=color_of("none"))
        axis.text(0.42, height - 0.1, name, ha="right", fontsize=10)
        axis.text(0.5, height, "\N{RIGHTWARDS ARROW}", ha="center", fontsize=18)
        axis.text(0.58, height, f"{after:,}", fontsize=26, color=color_of(run.spec.method))
        axis.text(0.58, height - 0.1, what, fontsize=10)
    axis.set_axis_off()
