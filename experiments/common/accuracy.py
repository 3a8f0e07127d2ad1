"""What the accuracy experiments share: the cells of a table, the run of one cell, and the arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution

from pyro_vd import NonFiniteError, Posterior, guides
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.records import (
    Record,
    environment,
    load_or_start,
    mismatches,
    read_records,
    slug,
    write_record,
)
from pyro_vd.experiments.common.training import SCHEMES, fit, initial_net, load_data, make_pair
from pyro_vd.inference.engine import MatmulDtype
from pyro_vd.inference.schedules import HoldThenDecay, WarmUp
from pyro_vd.metrics import compute_logits, error_rate, predictive_probabilities
from pyro_vd.model.pair import describe_prior

__all__ = [
    "DEFAULTS",
    "REQUIRED",
    "Args",
    "Cell",
    "Protocol",
    "Row",
    "Table",
    "check",
    "described",
    "one_run",
    "run_all",
    "select_cells",
    "settings_of",
    "train",
]

REQUIRED = (
    "experiment", "protocol", "dataset", "data_sha256", "row", "column", "scheme", "prior", "options", "sites", "local",
    "kl_weight", "seed", "epochs", "batch_size", "lr", "device", "torch", "pyro", "revision", "seconds", "test_error",
    "test_error_best", "test_error_mc", "num_samples", "weights", "diverged",
)  # fmt: skip

DEFAULTS = {"matmul_dtype": "float32"}  # values of settings that older records lack
NUMBERS = (
    "test_error",
    "test_error_best",
    "test_error_mc",
    "train_error",
    "sparsity",
    "test_error_pruned",
    "log_alpha",
)
THRESHOLD = 3.0  # of log_alpha (Molchanov et al. 2017)
CLASSES = 10  # of a network that is built only for its input shape
LOG_ALPHA_RANGE, NUM_BINS = (-15.0, 15.0), 60


@dataclass(frozen=True)
class Row:
    """One row of the table: a scheme and the weights that it makes random.

    Attributes:
        name: in the table and in records.
        scheme: a key of experiments.common.training.SCHEMES.
        sites: the random weights; None for those of every linear and convolution layer.
        options: of the guide.
        local: True for local reparameterization, False for weight draws.
        kl_weight: weight of the KL after warm-up.
        prior: of one weight, instead of the scheme's own.
        matmul_dtype: of the matrix products.
    """

    name: str
    scheme: str
    sites: tuple[str, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    local: bool = True
    kl_weight: float = 1.0
    prior: Distribution | None = None
    matmul_dtype: MatmulDtype = "float32"


@dataclass(frozen=True)
class Cell:
    """A row on one network: ``make(classes)`` builds the network, ``column`` is its name in the table."""

    row: Row
    column: str
    make: Callable[[int], nn.Module]

    def __str__(self) -> str:
        return f"{self.row.name}, {self.column}"


@dataclass(frozen=True)
class Protocol:
    """A training schedule with a name.

    Attributes:
        hold: share of the run at the full learning rate, which then decays linearly to 0.
        wait, ramp: shares of the run without the KL and of its linear warm-up, which takes at least one epoch. The
            first epoch never has the KL, and a warm-up over the whole run ends one step below the full weight.
    """

    name: str
    epochs: int
    batch_size: int
    lr: float
    hold: float
    wait: float
    ramp: float


@dataclass(frozen=True)
class Args(cli.Training):
    """Arguments of every accuracy experiment."""

    dataset: str = "auto"
    """A dataset's name, an image folder, or auto: the experiment's own if it can be loaded, else digits."""
    row: tuple[str, ...] = ()
    """Rows of the table by name; all by default."""
    seeds: int = 3
    """Seeds 0 .. n-1, one run each."""
    epochs: int | None = None
    """Passes over the training set instead of the protocol's."""
    num_samples: int = 10
    """Weight draws of test_error_mc."""
    validation: int = 0
    """Hold out this many training images and report on them instead of the test set: for tuning."""
    out: Path = Path("runs/accuracy")
    """Folder of records, checkpoints and table."""


@dataclass(frozen=True)
class Table:
    """What the runs of one table share."""

    experiment: str
    protocol: Protocol
    split: DataSplits
    device: torch.device
    args: Args

    @property
    def epochs(self) -> int:
        """Passes over the training set."""
        return self.args.epochs or self.protocol.epochs

    @property
    def name(self) -> str:
        """The name of the protocol, and the number of epochs if it is not the protocol's."""
        changed = f", {self.epochs} epochs" if self.epochs != self.protocol.epochs else ""
        return self.protocol.name + changed

    def records(self, required: tuple[str, ...] = REQUIRED) -> list[Record]:
        """The records in the folder of the table that have its protocol and its data."""
        wanted = {"protocol": self.name, "dataset": self.split.name}
        return [record for record in read_records(self.args.out, required) if not mismatches(record, wanted, {})]


def check(args: Args) -> torch.device:
    """Checks the arguments and returns the device.

    Raises:
        UserError: for a number out of range, an unknown engine or device.
    """
    device = cli.begin(args)
    for name in ("seeds", "num_samples", "epochs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")
    if args.validation < 0:
        raise UserError("--validation must be at least 0")
    return device


def select_cells(cells: Sequence[Cell], rows: tuple[str, ...]) -> list[Cell]:
    """The cells of these rows; all cells if no row is named.

    Raises:
        UserError: for an unknown row, naming the nearest known one.
    """
    known = dict.fromkeys(cell.row.name for cell in cells)
    for row in rows:
        cli.nearest("row", row, known)
    return [cell for cell in cells if not rows or cell.row.name in rows]


def run_all(args: Args, experiment: str, protocol: Protocol, cells: Sequence[Cell]) -> Table:
    """Runs every selected cell with every seed, on the dataset in the input shape of the networks."""
    device = check(args)
    todo = select_cells(cells, args.row)
    split = load_data(args.dataset, todo[0].make(CLASSES), args.data, validation=args.validation)
    table = Table(experiment, protocol, split.to(device), device, args)
    for seed in range(args.seeds):
        for cell in todo:
            one_run(table, cell, seed)
    return table


def one_run(table: Table, cell: Cell, seed: int) -> Record:
    """Trains and evaluates one cell with one seed, or loads the record of the same run."""
    settings = settings_of(table, cell, seed)
    name = slug(f"{cell.column}-{cell.row.name}-{settings['protocol']}-s{seed}")
    before, path, checkpoint = load_or_start(table.args.out, name, settings, table.args.resume, DEFAULTS, REQUIRED)
    if before:
        return before
    print(f"{cell}, seed {seed}: {table.split.name}, {table.epochs} epochs, {settings['protocol']}")
    row = cell.row
    net = initial_net(cell.make, table.split, seed, table.device)
    pair = make_pair(net, row.scheme, table.split, row.sites, row.prior, **row.options)
    try:
        posterior = train(table, row, pair, seed, checkpoint)
        numbers = _evaluate(posterior, table.split, table.args.num_samples)
    except NonFiniteError as error:
        print(f"diverged: {error}")
        posterior = Posterior(pair.model, pair.guide, error.history)
        numbers = {**dict.fromkeys(NUMBERS), "diverged": str(error)}
    seconds = sum(epoch["seconds"] for epoch in posterior.history)
    weights = sum(weight.numel() for weight in posterior.model.initial.values())
    record = {**settings, **environment(table.device), **numbers, "weights": weights, "seconds": seconds,
              "history": posterior.history}  # fmt: skip
    write_record(path, record)
    return record


def train(table: Table, row: Row, pair: Posterior, seed: int, checkpoint: Path) -> Posterior:
    """Fits the pair by the protocol of the table; the history has the test error of the mean after every epoch."""
    protocol, epochs, test = table.protocol, table.epochs, table.split.test
    warmth = WarmUp(round(protocol.wait * epochs), max(1, round(protocol.ramp * epochs)))

    def evaluate_epoch(epoch: int, current: Posterior) -> dict[str, float]:
        return {"error": error_rate(compute_logits(current.mean(), test), test.labels)}

    return fit(
        pair.model,
        pair.guide,
        table.split.train,
        epochs=epochs,
        batch_size=protocol.batch_size,
        lr=protocol.lr,
        lr_schedule=HoldThenDecay(round(protocol.hold * epochs), epochs + 1),
        kl_schedule=lambda epoch: row.kl_weight * warmth(epoch),
        estimator="local" if row.local else "weights",
        matmul_dtype=row.matmul_dtype,
        engine=table.args.engine,  # type: ignore[arg-type]
        seed=seed,
        checkpoint=checkpoint,
        on_epoch=evaluate_epoch,
    )


def _evaluate(posterior: Posterior, split: DataSplits, num_samples: int) -> Record:
    """Errors as fractions: of the posterior mean after the last and the best epoch and of draws on the test set, and of
    the posterior mean on the training set."""
    draws = posterior.predict(split.test.images, num_samples)
    errors = [epoch["error"] for epoch in posterior.history]
    return {
        "test_error": errors[-1],
        "test_error_best": min(errors),
        "test_error_mc": error_rate(predictive_probabilities(draws), split.test.labels),
        "train_error": error_rate(compute_logits(posterior.mean(), split.train), split.train.labels),
        **_pruned(posterior, split),
        "diverged": False,
    }


def _pruned(posterior: Posterior, split: DataSplits) -> Record:
    """Sparsity and error at the published threshold, and the distribution of log_alpha; empty without a log_alpha."""
    try:
        log_alpha = torch.cat([values.flatten() for values in posterior.log_alpha().values()]).clamp(*LOG_ALPHA_RANGE)
    except TypeError:
        return {}
    counts = torch.histc(log_alpha.float().cpu(), NUM_BINS, *LOG_ALPHA_RANGE)
    ranked = log_alpha.sort().values
    net = posterior.mean(posterior.masks(THRESHOLD))
    return {
        "sparsity": (log_alpha >= THRESHOLD).double().mean().item(),
        "test_error_pruned": error_rate(compute_logits(net, split.test), split.test.labels),
        "log_alpha": {
            "range": list(LOG_ALPHA_RANGE),
            "counts": counts.long().tolist(),
            "quantiles": {str(q): ranked[int(q * (len(ranked) - 1))].item() for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        },
    }


def settings_of(table: Table, cell: Cell, seed: int) -> Record:
    """The settings of a run in its record."""
    return {
        "experiment": table.experiment,
        **described(table.protocol, cell, seed),
        "protocol": table.name,
        "dataset": table.split.name,
        "data_sha256": table.split.sha256,
        "epochs": table.epochs,
        "num_samples": table.args.num_samples,
        "validation": table.args.validation,
    }


def described(protocol: Protocol, cell: Cell, seed: int) -> Record:
    """The settings of a cell and a protocol in a record, without those of the data."""
    row = cell.row
    return {
        "protocol": protocol.name,
        "row": row.name,
        "column": cell.column,
        "scheme": row.scheme,
        "prior": describe_prior(row.prior) if row.prior else guides.prior_name(SCHEMES[row.scheme]),
        "options": row.options,
        "sites": list(row.sites) if row.sites else None,
        "local": row.local,
        "kl_weight": row.kl_weight,
        "matmul_dtype": row.matmul_dtype,
        "seed": seed,
        "epochs": protocol.epochs,
        "batch_size": protocol.batch_size,
        "lr": protocol.lr,
        "hold": protocol.hold,
        "wait": protocol.wait,
        "ramp": protocol.ramp,
        "validation": 0,
    }
