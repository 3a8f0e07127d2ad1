"""Equal tuning for every method: six trials each of LeNet-300-100, compared on held-out training images.

``python -m experiments.tuning`` runs three values of one argument times two of another for each of sparse variational
dropout, L0, gradual magnitude pruning and the lottery ticket, with half of the epochs of the compression table, and
prints the error of each trial at one sparsity. An interrupted trial resumes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress, pruning_baselines
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.records import Record, mismatches, read_records
from pyro_vd.experiments.common.tables import percent, publish, ratio, to_markdown
from pyro_vd.experiments.common.training import load_data
from pyro_vd.models import NETWORKS

EXPERIMENT = "tuning"
NETWORK = "lenet300"
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


@dataclass(frozen=True)
class Args(cli.Training):
    """Runs the trials, and prints their table."""

    method: tuple[str, ...] = tuple(GRIDS)
    """One or more of sparse, l0, magnitude and lottery."""
    dataset: str = "mnist"
    validation: int = 10_000
    """Number of held-out training images that trials are evaluated on; the test set is not used."""
    out: Path = Path("runs/tuning")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    if not args.method:
        raise UserError("--method needs at least one name")
    for method in args.method:
        cli.nearest("method", method, GRIDS)
    if args.validation < 1:
        raise UserError("--validation must be at least 1: the test set must not be used for tuning")
    device = cli.begin(args)
    split = load_data(args.dataset, NETWORKS[NETWORK](), args.data, validation=args.validation).to(device)
    for method in args.method:
        for changes in trials(method):
            _run(trial(args, method, changes), method, split, device)
    publish(tuning_table(read_records(args.out)), args.out)


def trials(method: str) -> list[dict[str, Any]]:
    """The arguments of each trial of the method."""
    grid = GRIDS[method]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def trial(args: Args, method: str, changes: dict[str, Any]) -> mnist_compress.Args | pruning_baselines.Args:
    """The arguments of the experiment that runs the method."""
    shared = {
        name: getattr(args, name) for name in ("dataset", "validation", "engine", "device", "data", "out", "resume")
    }
    shared |= {"network": NETWORK, "pretrain": PRETRAIN, "epochs": EPOCHS, **changes}
    if method in pruning_baselines.METHODS:
        return pruning_baselines.Args(**shared)
    return mnist_compress.Args(scheme=(method,), num_samples=1, **shared)


def _run(
    args: mnist_compress.Args | pruning_baselines.Args, method: str, split: DataSplits, device: torch.device
) -> Record:
    if isinstance(args, pruning_baselines.Args):
        return pruning_baselines.one_run(args, split, method, SPARSITY, 0, device)
    return compression.one_run(mnist_compress.table(args, split, device), method, 0)


def tuning_table(records: Iterable[Record]) -> str:
    """A table per dataset: the result of each trial, with the best of each method marked."""
    records = list(records)
    datasets = dict.fromkeys(record["dataset"] for record in records)
    return "\n\n".join(_table([r for r in records if r["dataset"] == dataset], dataset) for dataset in datasets)


def _table(records: Sequence[Record], dataset: str) -> str:
    header = ("method", "trial", "error %", "compression", f"error % at {COMPRESSION:g}x")
    rows = [row for method in GRIDS for row in _rows(records, method)]
    return f"{NETWORK}, {dataset}, {PRETRAIN} + {EPOCHS} epochs, seed 0:\n\n{to_markdown([header, *rows])}"


def _rows(records: Sequence[Record], method: str) -> list[tuple[str, ...]]:
    """A row per trial; the best is marked after all trials of the method have run."""
    found = [_of(records, method, changes) for changes in trials(method)]
    errors = [error_at(record, COMPRESSION) if record else None for record in found]
    best = min((error for error in errors if error is not None), default=None) if all(found) else None
    marks = [" (best)" if error is not None and error == best else "" for error in errors]
    names = [", ".join(f"{name} {value:g}" for name, value in changes.items()) for changes in trials(method)]
    return [
        (method, name, *_numbers(record), percent([error]) + mark)
        for name, record, error, mark in zip(names, found, errors, marks, strict=True)
    ]


def _of(records: Sequence[Record], method: str, changes: dict[str, Any]) -> Record | None:
    wanted = {"network": NETWORK, "pretrain": PRETRAIN, "epochs": EPOCHS, **changes}
    of_method = (record for record in records if record["scheme"].split(",")[0] == method)
    return next((record for record in of_method if not mismatches(record, wanted, {})), None)


def _numbers(record: Record | None) -> tuple[str, str]:
    if not record:
        return "to do", "-"
    if record["diverged"]:
        return "diverged", "-"
    return percent([record["test_error"]]), ratio([record["compression"]])


def error_at(record: Record, compression: float) -> float | None:
    """The error at the run's smallest compression of at least ``compression``; None if no threshold reaches it."""
    own = {"error": record["test_error"], "compression": record["compression"]}
    points = [point for point in (own, *record["curve"]) if (point["compression"] or 0.0) >= compression]
    return min(points, key=lambda point: point["compression"])["error"] if points else None


if __name__ == "__main__":
    cli.run(Args, main)
