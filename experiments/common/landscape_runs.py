"""Runs of experiments.landscape: training that measures the loss along the gradient at every k-th step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor
from tqdm import tqdm

from pyro_vd.data import DataSplits
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.landscape_measures import measure_pair
from pyro_vd.experiments.common.pairs import make_pair
from pyro_vd.experiments.common.phases import averaged_inputs, measure_error
from pyro_vd.experiments.common.spec import KINDS as SPEC_KINDS
from pyro_vd.experiments.common.spec import Data, Fit
from pyro_vd.experiments.common.store import Run, Store, reuse
from pyro_vd.inference.engine import Objective
from pyro_vd.models import VGGA
from pyro_vd.process_state import flush_denormals

__all__ = ["KEYS", "KINDS", "WITH", "WITHOUT", "LandscapeSpec", "Rows", "make_order", "run_spec"]

KEYS = ("points", "test_error", "train_error", "diverged")
"""Numbers of a record. ``points`` has a row per measurement."""
DIGITS = 6  # of the numbers in points


@dataclass(frozen=True, kw_only=True)
class LandscapeSpec:
    """What decides the numbers of a run.

    Attributes:
        batch_norm, scale: of VGG-A.
        data: the images.
        fit: the scheme and its training, by Adam with a constant learning rate.
        step_sizes: multiples of the gradient, see ``measure_landscape``.
        every: steps from one measurement to the next.
        seed: of the initial weights, the noise and the order of the images.
    """

    batch_norm: bool
    scale: float
    data: Data
    fit: Fit
    step_sizes: tuple[float, ...]
    every: int
    seed: int = 0

    @property
    def label(self) -> str:
        """For the name of the record."""
        network = "vgg_a_bn" if self.batch_norm else "vgg_a"
        return f"{self.data.name.rpartition('/')[2]}-{network}-{self.fit.scheme}"


Rows = Mapping[str, Mapping[str, LandscapeSpec]]
"""Network -> row -> the spec of seed 0. The rows are the schemes, and ``none`` at other learning rates."""
WITHOUT, WITH = "without batch norm", "with batch norm"
"""The networks."""
KINDS = {**SPEC_KINDS, LandscapeSpec.__name__: LandscapeSpec}


def run_spec(spec: LandscapeSpec, store: Store, split: DataSplits, study: str) -> Run:
    """Trains and measures, or loads the record of the same run.

    Raises:
        UserError: for a record of other images under the same spec.
    """
    if known := store.load(spec, KEYS):
        return reuse(known, split.sha256)
    start = time.monotonic()
    torch.manual_seed(spec.seed)
    device = split.test.labels.device
    net = VGGA(split.classes, spec.scale, spec.batch_norm).to(device)
    pair = make_pair(net, spec.fit, len(split.train))
    points, diverged = _train(Objective(pair.model, pair.guide), spec, split)
    pair.model.eval()
    errors: dict[str, float | None] = {"test_error": None, "train_error": None}
    if not diverged:
        deployed = pair.mean(inputs=averaged_inputs(split))
        errors = {f"{name}_error": measure_error(deployed, getattr(split, name)) for name in ("test", "train")}
    facts = {"experiment": study, "dataset": split.name, "data_sha256": split.sha256, **environment(device)}
    seconds = time.monotonic() - start
    return store.save(spec, {**facts, **errors, "diverged": diverged, "seconds": seconds, "points": points})


def _train(objective: Objective, spec: LandscapeSpec, split: DataSplits) -> tuple[list[dict], bool | str]:
    """The measurements, and whether and where the loss ceased to be finite."""
    training, points = spec.fit.training, []
    optimizer = torch.optim.Adam(objective.parameters(), training.lr)
    objective.train()
    step = 0
    with flush_denormals(), pyro.validation_enabled(False):  # a loss that is not finite is noted below
        for epoch in tqdm(range(training.epochs), desc=spec.label):
            beta = torch.tensor(training.evaluate("kl_schedule", epoch), device=split.test.labels.device)
            for index in make_order(len(split.train), training.batch_size, spec.seed, epoch):
                batch = split.train.batch(index.to(beta.device))
                if step % spec.every == 0:
                    points.append({"step": step, **_measure(objective, batch, beta, spec, step)})
                if not _step(objective, optimizer, batch, beta):
                    return points, f"the loss is not finite at step {step}"
                step += 1
    return points, False


def make_order(count: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of the minibatches of an epoch, all of the same size: a smaller last one is left out."""
    generator = torch.Generator().manual_seed(10_000 * seed + epoch)
    size = min(batch_size, count)
    return [index for index in torch.randperm(count, generator=generator).split(size) if len(index) == size]


def _step(objective: Objective, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], beta: Tensor) -> bool:
    """One training step; False if the loss is not finite, and then nothing moves."""
    loss = objective(*batch, beta)[0] / objective.model.num_data  # nats per example
    if not loss.isfinite():
        return False
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    objective.guide.project()
    return True


def _measure(objective: Objective, batch: tuple[Tensor, Tensor], beta: Tensor, spec: LandscapeSpec, step: int) -> dict:
    found, noise = measure_pair(objective, *batch, beta, spec.step_sizes, seed=step)
    return {
        "loss": _round(found.loss),
        "norm": _round(found.norm),
        "losses": [_round(loss) for loss in found.losses],
        "changes": [_round(change) for change in found.changes],
        "smoothness": _round(found.smoothness),
        "noise": _round(noise),
    }


def _round(value: float) -> float | None:
    """None for a number that is not finite, which JSON has not."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
