"""Draws outputs and gradients with weight draws and with local reparameterization.

python docs/explanation/pictures/local_reparameterization.py
"""

import contextlib
import math
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import torch
from torch.nn.functional import linear

import pyro_vd
from pyro_vd.posteriors import WeightNormal

DRAWS = 1_000
BATCHES = (1, 4, 16, 64, 256)
ESTIMATORS = {
    "one weight draw for the batch": (contextlib.nullcontext, "tab:orange"),
    "local reparameterization": (pyro_vd.local_reparam, "tab:blue"),
}


def outputs(x: torch.Tensor, log_sigma2: torch.Tensor) -> torch.Tensor:
    """Outputs of a linear layer with one output, whose two weights are random."""
    q = WeightNormal(torch.ones(1, 2), log_sigma2=log_sigma2)
    return linear(x, pyro.sample("weight", q.to_event(2))).squeeze(-1)


def draw_outputs(handler) -> torch.Tensor:
    """Outputs of two examples, (draws, 2)."""
    x = torch.tensor([[1.0, 0.5], [0.8, 1.0]])
    with torch.no_grad(), handler():
        return torch.stack([outputs(x, torch.zeros(1, 2)) for _ in range(DRAWS)])


def gradient_deviation(handler, batch: int) -> float:
    """Standard deviation of the gradient of the mean squared output over a batch.

    The examples lie on a circle, so batches of every size are alike.
    """
    angle = math.pi / 4 + 2 * math.pi * torch.arange(batch) / batch
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    gradients = []
    for _ in range(DRAWS):
        log_sigma2 = torch.zeros(1, 2, requires_grad=True)
        with handler():
            loss = outputs(x, log_sigma2).square().mean()
        gradients.append(torch.autograd.grad(loss, log_sigma2)[0][0, 0])
    return torch.stack(gradients).std().item()


def draw(path: Path) -> None:
    pyro.set_rng_seed(0)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for axis, (name, (handler, color)) in zip(axes, ESTIMATORS.items()):
        first, second = draw_outputs(handler).T
        axis.scatter(first, second, s=3, alpha=0.4, color=color, linewidths=0)
        correlation = torch.corrcoef(torch.stack([first, second]))[0, 1]
        axis.set(
            title=f"{name}\ncorrelation {correlation:z.2f}",
            xlabel="output of example 1",
            ylabel="output of example 2",
            xlim=(-3, 6),
            ylim=(-3, 6),
        )
    for name, (handler, color) in ESTIMATORS.items():
        deviations = [gradient_deviation(handler, batch) for batch in BATCHES]
        axes[2].loglog(BATCHES, deviations, "o-", color=color)
        axes[2].annotate(
            name,
            (BATCHES[1], deviations[1]),
            (4, 8),
            textcoords="offset points",
            color=color,
            fontsize=9,
        )
    axes[2].set(
        title="gradient of log_sigma2",
        xlabel="batch size",
        ylabel="standard deviation",
        xticks=BATCHES,
        xticklabels=BATCHES,
        ylim=(0.03, 3),
    )
    axes[2].minorticks_off()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    default = Path(__file__).with_suffix(".png")
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
