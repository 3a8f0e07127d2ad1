"""The picture of what pruning keeps of a fully connected network: weights per pixel, and numbers before and after."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from pyro_vd import compress
from pyro_vd.experiments.common.plotting import color_of, plt, save_figure
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.store import Run

__all__ = ["count_per_input", "draw_kept"]


def draw_kept(run: Run, path: Path) -> None:
    """Draws the weights that are left at every pixel, and weights and bytes before and after, on a log scale.

    Args:
        run: of a network whose first layer reads the pixels of a square image, with its compressed network beside it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", width_ratios=(1, 1.7))
    _draw_pixels(left, count_per_input(run))
    _draw_bars(right, run)
    save_figure(figure, path)


def count_per_input(run: Run) -> Tensor:
    """Non-zero weights of the first layer at every input of the dense network, (inputs,)."""
    make = network_maker(run.spec)
    net = compress.load(run.beside(".safetensors.xz"), make(10))
    dense = next(module for module in make(10).modules() if isinstance(module, torch.nn.Linear))
    first = next(module for module in net.modules() if isinstance(module, torch.nn.Linear))
    counts = torch.zeros(dense.in_features, dtype=torch.long)
    selected = getattr(first, "selected", torch.arange(dense.in_features))
    counts[selected] = first.weight.count_nonzero(0)
    return counts


def _draw_pixels(axis: Axes, counts: Tensor) -> None:
    side = math.isqrt(len(counts))
    image = axis.imshow(counts.reshape(side, side), cmap="magma")
    axis.figure.colorbar(image, ax=axis, shrink=0.8, label="weights left, of 300")
    axis.set_title(f"{int((counts > 0).sum())} of {len(counts)} pixels are read", fontsize=11)
    axis.set_axis_off()


def _draw_bars(axis: Axes, run: Run) -> None:
    cost = run["deployment"]
    bars = [
        ("weights", run["weights"], color_of("none")),
        ("weights that are not 0", run["nonzero"], color_of(run.spec.method)),
        ("bytes of the float32 file", cost["dense_bytes"], color_of("none")),
        ("bytes of the int8 file, which loads back", cost["forms"]["int8"]["bytes"], color_of(run.spec.method)),
    ]
    for place, (name, value, color) in zip((0.0, 0.8, 2.0, 2.8), bars, strict=True):
        axis.barh(place, value, height=0.42, color=color)
        axis.text(value, place, f" {value:,}", va="center", fontsize=10)
        axis.text(1.0, place - 0.38, name, va="center", fontsize=9)
    axis.set(xscale="log", xlim=(1, 20 * max(value for _, value, _ in bars)))
    axis.invert_yaxis()
    axis.set_axis_off()  # every bar has its number
    axis.set_title(f"LeNet-300-100 on MNIST: {100 * run['test_error']:.2f} % error", fontsize=11, pad=12)
