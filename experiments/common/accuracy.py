"""What the experiments share that compare rows, schemes mostly, on the columns of a table, networks mostly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.measures import ACCURACY_KEYS, measure_accuracy
from pyro_vd.experiments.common.protocols import Protocol
from pyro_vd.experiments.common.runner import make_runner
from pyro_vd.experiments.common.spec import Spec
from pyro_vd.experiments.common.store import Run, Store

__all__ = ["Args", "Columns", "check", "find_runs", "run_columns", "seeds_of", "select_rows", "set_epochs"]

Columns = Mapping[str, Mapping[str, Spec]]
"""Name of a column -> name of a row -> the spec of seed 0."""
DIVERGED = dict.fromkeys(ACCURACY_KEYS)


@dataclass(frozen=True)
class Args(cli.Setup):
    """Arguments of every experiment with rows and columns."""

    dataset: str = "auto"
    """A dataset's name, an image folder, or auto: the experiment's own if it can be loaded, else digits."""
    row: tuple[str, ...] = ()
    """Rows of the table by name; all by default."""
    seeds: int = 3
    """Seeds 0 .. n-1, one run each."""
    epochs: int | None = None
    """Passes over the training set instead of the protocol's."""
    num_samples: int = 10
    """Weight draws of a Monte Carlo prediction."""
    validation: int = 0
    """Hold out this many training images and report on them instead of the test set: for tuning."""
    out: Path = Path("runs/accuracy")
    """Folder of records, checkpoints and table."""


def check(args: Args) -> torch.device:
    """Checks the arguments and returns the device.

    Raises:
        UserError: for a number out of range or an unavailable device.
    """
    device = cli.begin(args)
    cli.check_counts(args, "seeds", "num_samples", "epochs")
    if args.validation < 0:
        raise UserError("--validation must be at least 0")
    return device


def set_epochs(protocol: Protocol, args: Args) -> Protocol:
    """The protocol with the epochs of the arguments."""
    return replace(protocol, epochs=args.epochs or protocol.epochs)


def run_columns(args: Args, study: str, columns: Columns, device: torch.device) -> Store:
    """Makes the runs of the selected rows with every seed, and returns their store."""
    runner = make_runner(args, study, device, measure_accuracy, ACCURACY_KEYS, DIVERGED)
    runner.run_all(seeds_of(select_rows(columns, args.row), args.seeds))
    return runner.store


def seeds_of(columns: Columns, seeds: int) -> list[Spec]:
    """The specs of all rows and columns with seeds 0 .. seeds - 1, seed by seed, each once."""
    specs = dict.fromkeys(spec for rows in columns.values() for spec in rows.values())
    return [replace(spec, seed=seed) for seed in range(seeds) for spec in specs]


def select_rows(columns: Columns, names: tuple[str, ...]) -> Columns:
    """The columns with these rows only; with all rows if none is named.

    Raises:
        UserError: for an unknown row, naming the nearest known one.
    """
    known = dict.fromkeys(row for rows in columns.values() for row in rows)
    for name in names:
        cli.nearest("row", name, known)
    return {
        column: {row: spec for row, spec in rows.items() if not names or row in names}
        for column, rows in columns.items()
    }


def find_runs(
    store: Store, rows: Mapping[str, Spec], required: tuple[str, ...] = ACCURACY_KEYS
) -> dict[str, list[Run]]:
    """Row -> its runs with any seed, for the rows that have any."""
    found = {row: store.seeds(spec, required) for row, spec in rows.items()}
    return {row: runs for row, runs in found.items() if runs}
