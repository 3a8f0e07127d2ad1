"""Training curves of a tiny network, to hold new ones against: ``python -m tests.reference.convergence`` writes
convergence.json beside it, the mean and the standard deviation over seeds that no test uses.

A change that is meant to change training has to make it anew, and say so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from pyro_vd import Categorical, fit_seeds, guides, lift
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp

PATH = Path(__file__).with_suffix(".json")
SCHEMES = ("bernoulli", "variational_b", "sparse", "hierarchical")
NUMBERS = ("log_likelihood", "kl")
SEEDS = range(1000, 1100)
N, FEATURES, CLASSES, EPOCHS = 320, 8, 3, 30
EVERY = 5  # epochs between two points of a curve


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Classes that overlap and five features that say nothing, the same for every seed."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % CLASSES
    centers = torch.zeros(CLASSES, FEATURES)
    centers[:, :3] = 1.5 * torch.eye(CLASSES)
    return centers[labels] + torch.randn(N, FEATURES, generator=generator), labels


def curves(scheme: str, seeds: Sequence[int], engine: Literal["eager", "compiled"]) -> np.ndarray:
    """(seeds, numbers, points) of 300 steps from start to end, the last at learning rates near 0."""

    def make():
        net = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))
        chosen = guides.SCHEMES[scheme]
        model = lift(net, chosen.prior, Categorical, num_data=N)
        return model, chosen.Guide(model)

    posteriors = fit_seeds(
        make, examples(), seeds=seeds, epochs=EPOCHS, batch_size=N // 10, lr=1e-2, threshold=3.0, engine=engine,
        lr_schedule=HoldThenDecay(EPOCHS // 2, EPOCHS), kl_schedule=WarmUp(3, 12), progress=False,
    )  # fmt: skip
    return np.array([[[row[name] for row in p.history[EVERY - 1 :: EVERY]] for name in NUMBERS] for p in posteriors])


def main() -> None:
    reference = {}
    for scheme in SCHEMES:
        found = curves(scheme, SEEDS, "compiled")
        reference[scheme] = {"mean": found.mean(0).tolist(), "sd": found.std(0, ddof=1).tolist()}
    PATH.write_text(json.dumps({"seeds": len(SEEDS), "torch": torch.__version__, "curves": reference}, indent=1) + "\n")


if __name__ == "__main__":
    main()
