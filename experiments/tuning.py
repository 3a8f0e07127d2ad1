"""Equal tuning for every method: six trials each of LeNet-300-100, compared on held-out training images.

``python -m experiments.tuning`` runs three values of one argument times two of another for each of sparse variational
dropout, L0, gradual magnitude pruning and the lottery ticket, with half of the epochs of the compression table, and
prints the error of each trial at one sparsity. An interrupted trial resumes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, pruning_baselines
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Spec
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, percent, ratio

STUDY = "tuning"
NETWORK: Literal["lenet300"] = "lenet300"
SPARSITY = 0.991
COMPRESSION = 110.0
"""Smallest compression at which trials are compared; SPARSITY is slightly more."""
PRETRAIN, EPOCHS = 15, 50
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "sparse": {"kl_weight": (1.0, 1.5, 2.0), "noise_lr": (1.0, 0.3)},
    "l0": {"kl_weight": (3.0, 10.0, 30.0), "noise_lr": (3.0, 10.0)},
    "magnitude": {"end": (0.1, 0.2, 0.4), "lr": (1e-3, 2e-3)},
    "lottery": {"rounds": (5, 9, 13), "lr": (1e-3, 2e-3)},
}
BASELINES = ("magnitude", "lottery")


@dataclass(frozen=True)
class Args(cli.Setup):
    """Runs the trials, and prints their table."""

    method: tuple[Literal["sparse", "l0", "magnitude", "lottery"], ...] = ("sparse", "l0", "magnitude", "lottery")
    """One or more."""
    dataset: str = "mnist"
    validation: int = 10_000
    """Number of held-out training images that trials are evaluated on; the test set is not used."""
    out: Path = Path("runs/tuning")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    if not args.method:
        raise UserError("--method needs at least one name")
    if args.validation < 1:
        raise UserError("--validation must be at least 1: the test set must not be used for tuning")
    device = cli.begin(args)
    data = Data(name=choose_dataset(args.dataset, args.data), validation=args.validation)
    trials = {make_spec(data, method, changes): changes for method in args.method for changes in make_trials(method)}
    runner = compression.make_runner(args, STUDY, device, lambda spec: describe(spec.method, trials[spec]))
    runner.run_all(list(trials))
    publish([make_table(data, Store(args.out))], args.out)


def make_trials(method: str) -> list[dict[str, Any]]:
    """The arguments of each trial of the method."""
    grid = GRIDS[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def make_spec(data: Data, method: str, changes: dict[str, Any]) -> Spec:
    """The spec of a trial."""
    changes = {"pretrain": PRETRAIN, "epochs": EPOCHS, **changes}
    if method in BASELINES:
        asked = pruning_baselines.Args(network=NETWORK, validation=data.validation, **changes)
        return pruning_baselines.make_spec(asked, data.name, method, SPARSITY)
    return compression_spec(mnist_compress.MOLCHANOV, method, data, NETWORK, changes=changes, num_samples=1)


def describe(method: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The notes of a trial's record."""
    protocol = {} if method in BASELINES else {"protocol": mnist_compress.MOLCHANOV.name}
    return {"experiment": STUDY, **protocol, "changes": {"pretrain": PRETRAIN, "epochs": EPOCHS, **changes}}


def make_table(data: Data, store: Store) -> Table:
    """The result of each trial, with the best of each method marked."""
    header = ("method", "trial", "error %", "compression", f"error % at {COMPRESSION:g}x")
    rows = [row for method in GRIDS for row in _make_rows(data, store, method)]
    title = f"{NETWORK}, {data.name}, {data.validation:,} validation images, {PRETRAIN} + {EPOCHS} epochs, seed 0"
    return Table(title, header, tuple(rows))


def _make_rows(data: Data, store: Store, method: str) -> list[tuple[str, ...]]:
    """A row per trial; the best is marked after all trials of the method have run."""
    trials = make_trials(method)
    found = [store.load(make_spec(data, method, changes)) for changes in trials]
    errors = [error_at(run, COMPRESSION) if run else None for run in found]
    best = min((error for error in errors if error is not None), default=None) if all(found) else None
    marks = [" (best)" if error is not None and error == best else "" for error in errors]
    names = [", ".join(f"{name} {value:g}" for name, value in changes.items()) for changes in trials]
    return [
        (method, name, *_numbers(run), percent([error]) + mark)
        for name, run, error, mark in zip(names, found, errors, marks, strict=True)
    ]


def _numbers(run: Run | None) -> tuple[str, str]:
    if not run:
        return "to do", "-"
    if run.diverged:
        return "diverged", "-"
    return percent([run["test_error"]]), ratio([run["compression"]])


def error_at(run: Run, compression: float) -> float | None:
    """The error at the run's smallest compression of at least ``compression``; None if no threshold reaches it."""
    if run.diverged:
        return None
    own = {"error": run["test_error"], "compression": run["compression"]}
    points = [point for point in (own, *run["curve"]) if (point["compression"] or 0.0) >= compression]
    return min(points, key=lambda point: point["compression"])["error"] if points else None


if __name__ == "__main__":
    cli.run(Args, main)
