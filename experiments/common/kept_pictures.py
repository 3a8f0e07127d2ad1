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
    """Draws the weights that are left at every pixel beside the numbers of weights and bytes before and after.

    Args:
        run: of a network whose first layer reads the pixels of a square image, with its compressed network beside it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.4), layout="constrained", width_ratios=(1, 1.5))
    _draw_pixels(left, count_per_input(run))
    _write_numbers(right, run)
    figure.suptitle(f"LeNet-300-100 on MNIST: {100 * run['test_error']:.2f} % error", fontsize=12)
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
