"""A run of the UCI benchmark: one scheme on one set, on all of its splits at once.

Settings are chosen for each split by its training examples alone: a fifth of them is held out, every setting is trained
on the others, and the one with the highest log likelihood of the held-out targets is trained again on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_vd import (
    Gaussian,
    HeteroscedasticGaussian,
    HierarchicalNormal,
    NonFiniteError,
    Posterior,
    fit_seeds,
    guides,
    lift,
    schedules,
)
from pyro_vd.data import RegressionTable
from pyro_vd.experiments.common.spec import Options
from pyro_vd.inference.engine import EngineName
from pyro_vd.metrics import log_predictive_density, rmse
from pyro_vd.model.weight_guide import WeightGuide

__all__ = ["HELD_OUT", "PRIORS", "RegressionSpec", "run_splits", "try_splits"]

HELD_OUT = 0.2  # of a split's training examples, to choose the settings by
DEFAULT_STEPS = 8000
SMALL = 5000  # examples
NUMBERS = ("log_likelihood", "rmse", "setting", "held_out_log_likelihood")
PRIORS: dict[str, Distribution] = {
    "Normal(0, 1)": dist.Normal(0.0, 1.0),
    "HierarchicalNormal(1, 10)": HierarchicalNormal(concentration=1.0, rate=10.0, share="layer"),
}
"""Priors besides a scheme's own. The second one is that of Wu et al. 2019, whose hyperprior is InvGamma(1, 10)."""


@dataclass(frozen=True, kw_only=True)
class RegressionSpec:
    """A run on all splits of a set.

    Attributes:
        dataset: a key of ``pyro_vd.data.UCI_SETS``.
        scheme: a key of ``pyro_vd.guides.SCHEMES``.
        prior: a key of ``PRIORS``; None for the scheme's own.
        settings: what is chosen among; each holds ``steps`` and options of the guide.
        noise: "one" standard deviation, learned, or "heteroscedastic".
        hidden: units of the hidden layer.
        members: of an ensemble.
        biases: whether biases are random, too.
        splits: the first so many are run.
        num_samples: weight draws of a prediction, for all members together.
        batch_size, lr: of Adam, whose rate decays to 0 in the second half of the steps.
        seed: of the first split's first member; the others follow.
    """

    dataset: str
    scheme: str
    prior: str | None = None
    settings: tuple[Options, ...] = (Options(),)
    noise: str = "one"
    hidden: int = 50
    members: int = 1
    biases: bool = False
    splits: int = 20
    num_samples: int = 200
    batch_size: int = 100
    lr: float = 1e-2
    seed: int = field(default=0)

    @property
    def label(self) -> str:
        """A short name for files: set and scheme."""
        return f"{self.dataset}-{self.scheme}"


class Fold(NamedTuple):
    """Rows to train on, and rows to predict."""

    train: Tensor
    test: Tensor


class Scores(NamedTuple):
    """Of one fold, in the unit of the targets."""

    log_likelihood: float
    rmse: float


class Standardized(nn.Module):
    """A network of one hidden layer between inputs and targets in their own units.

    Args:
        x, y: training examples, whose means and standard deviations standardize.
        hidden: units.
        outputs: 1 for the mean of the target; 2 for the mean and the log_scale of its noise.
    """

    x_mean: Tensor
    x_scale: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, x: Tensor, y: Tensor, hidden: int, outputs: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, outputs))
        scale = x.std(0)
        self.register_buffer("x_mean", x.mean(0))
        self.register_buffer("x_scale", torch.where(scale > 0, scale, 1.0))  # a constant column
        self.register_buffer("shift", torch.cat([y.mean(0), y.std(0).log()])[:outputs])
        self.register_buffer("scale", torch.cat([y.std(0), torch.ones(1)])[:outputs])

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body((x - self.x_mean) / self.x_scale) * self.scale + self.shift
        return output


def try_splits(
    spec: RegressionSpec, table: RegressionTable, engine: EngineName, device: torch.device, folder: Path
) -> dict[str, Any]:
    """What :func:`run_splits` gives, and whether a split diverged, which leaves no numbers."""
    try:
        return {**run_splits(spec, table, engine, device, folder), "diverged": False}
    except NonFiniteError as error:
        return {**dict.fromkeys(NUMBERS), "diverged": str(error)}


def run_splits(
    spec: RegressionSpec, table: RegressionTable, engine: EngineName, device: torch.device, folder: Path
) -> dict[str, Any]:
    """Scores of every split, and the settings that were chosen.

    Args:
        folder: of checkpoints; those of a finished run are not used again.
    """
    unit = 10.0 ** round(math.log10(table.y.std().item()))  # so that numbers are about 1; a constant of the set
    x, y = table.x.float().to(device), (table.y / unit).float().to(device)
    folds = [Fold(table.train_rows(split), table.test_rows[split]) for split in range(spec.splits)]
    run = _Run(spec, x, y, engine, folder)
    chosen, tried = run.choose(folds)
    scores: dict[int, Scores] = {}
    for setting in sorted(set(chosen)):
        splits = [split for split in range(spec.splits) if chosen[split] == setting]
        found = run.score(spec.settings[setting], [folds[i] for i in splits], splits, f"test{setting}")
        scores.update(zip(splits, found, strict=True))
    ordered = [scores[split] for split in range(spec.splits)]
    log_likelihood = [score.log_likelihood - math.log(unit) for score in ordered]
    held_out = [[value - math.log(unit) for value in values] for values in tried]
    return dict(zip(NUMBERS, (log_likelihood, [score.rmse * unit for score in ordered], chosen, held_out), strict=True))


class _Run(NamedTuple):
    """What the fits of a run have in common."""

    spec: RegressionSpec
    x: Tensor
    y: Tensor
    engine: EngineName
    folder: Path

    def choose(self, folds: Sequence[Fold]) -> tuple[list[int], list[list[float]]]:
        """The setting of every split, and the log likelihoods of held-out targets, by setting and split."""
        settings = self.spec.settings
        if len(settings) == 1:
            return [0] * len(folds), []
        inner = [hold_out(fold.train, self.spec.seed + split) for split, fold in enumerate(folds)]
        splits = list(range(len(folds)))
        tried = [
            [score.log_likelihood for score in self.score(setting, inner, splits, f"held_out{number}")]
            for number, setting in enumerate(settings)
        ]
        return [max(range(len(settings)), key=lambda i: tried[i][split]) for split in splits], tried

    def score(self, setting: Options, folds: Sequence[Fold], splits: Sequence[int], name: str) -> list[Scores]:
        """Trains all members of the folds with this setting, and scores their predictions."""
        spec, members = self.spec, self.spec.members
        rows = [fold.train for fold in folds for _ in range(members)]
        options = setting.plain()
        steps = options.pop("steps", DEFAULT_STEPS)
        # A small set is repeated, and so is the KL: epochs of a few steps would be mostly bookkeeping.
        count = len(rows[0])
        repeats = spec.batch_size // math.gcd(count, spec.batch_size) if count < SMALL else 1
        copies = torch.arange(repeats)[:, None] * len(self.x)
        epochs = max(1, round(steps / math.ceil(repeats * count / spec.batch_size)))
        pending = iter(rows)
        posteriors = fit_seeds(
            lambda: self.make_pair(next(pending), options, repeats),
            (self.x.repeat(repeats, 1), self.y.repeat(repeats, 1)),
            seeds=[spec.seed + members * split + member for split in splits for member in range(members)],
            subsets=[(of_fold + copies).flatten() for of_fold in rows],
            epochs=epochs,
            batch_size=spec.batch_size,
            lr=spec.lr,
            lr_schedule=schedules.HoldThenDecay(epochs // 2, epochs),
            kl_schedule=schedules.WarmUp(0, max(1, epochs // 4), weight=repeats),
            engine=self.engine,
            checkpoint=self.folder / name,
        )
        parts = [posteriors[i : i + members] for i in range(0, len(posteriors), members)]
        return [self.predict(part, fold.test) for part, fold in zip(parts, folds, strict=True)]

    def make_pair(self, rows: Tensor, options: Mapping[str, Any], repeats: int) -> tuple[Any, WeightGuide]:
        """The pair of a fold, whose training examples are these rows, repeated."""
        spec, y = self.spec, self.y[rows]
        is_one = spec.noise == "one"
        net = Standardized(self.x[rows], y, spec.hidden, outputs=1 if is_one else 2)
        likelihood = Gaussian(y.std().item(), learn_scale=True) if is_one else HeteroscedasticGaussian()
        scheme = guides.SCHEMES[spec.scheme]
        prior = scheme.prior if spec.prior is None else PRIORS[spec.prior]
        select = (lambda name, module, parameter: True) if spec.biases else None
        model = lift(net.to(self.x.device), prior, likelihood, repeats * len(rows), select)
        return model, scheme.Guide(model, **options)

    def predict(self, members: Sequence[Posterior], rows: Tensor) -> Scores:
        """The predictive density is the average over weight draws and members, as is the prediction."""
        x, y = self.x[rows], self.y[rows]
        densities, means = [], []
        for member in members:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.spec.seed)
                outputs = member.predict(x, self.spec.num_samples // len(members))
            densities.append(log_predictive_density(member.model.likelihood(outputs), y))
            means.append(outputs[..., :1].mean(0))
        density = torch.stack(densities).logsumexp(0) - math.log(len(members))
        return Scores(density.double().mean().item(), rmse(torch.stack(means).mean(0), y))


def hold_out(rows: Tensor, seed: int) -> Fold:
    """A random part of the training rows to train on, and the rest to choose the settings by."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    held = round(HELD_OUT * len(rows))
    return Fold(rows[order[held:].sort().values], rows[order[:held].sort().values])
