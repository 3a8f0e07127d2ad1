"""One run of an experiment in compression: train a scheme, prune at its log_alpha, evaluate, shrink, write a record."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from pyro_vd import NonFiniteError, Posterior, compress, compression_report, guides
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli, pictures
from pyro_vd.experiments.common.deployment import measure_files, shrink_pruned, try_deploy
from pyro_vd.experiments.common.fine_tune import fine_tune_pruned
from pyro_vd.experiments.common.pretrain import pretrain
from pyro_vd.experiments.common.pruning import Pruning, check_threshold, lr_scale, pruning_settings
from pyro_vd.experiments.common.records import (
    Record,
    delete_run,
    environment,
    load_or_start,
    read_records,
    run_paths,
    slug,
    training_log,
    write_record,
)
from pyro_vd.experiments.common.tables import compression_tables, publish
from pyro_vd.experiments.common.training import fit, initial_net, make_pair
from pyro_vd.guides._gaussian import BOUNDS
from pyro_vd.inference.schedules import HoldThenDecay, Schedule, WarmUp
from pyro_vd.metrics import compute_logits, error_rate, predictive_probabilities

__all__ = [
    "THRESHOLDS",
    "Args",
    "Protocol",
    "Table",
    "check",
    "described",
    "diverged_numbers",
    "one_run",
    "run_all",
    "settings_of",
]  # fmt: skip

NUM_AVERAGED_IMAGES = 10_000  # for the running averages of batch normalization
# Arguments whose default is the protocol's -> their value in records that are older than the argument.
PROTOCOL_DEFAULTS = {"pretrain": 0, "noise_lr": 1.0, "kl_weight": 1.0, "shift": 0, "fine_tune": 0}
# Arguments that do not affect the dense training at the start of a run.
POST_PRETRAINING_ARGUMENTS = (
    "epochs", "noise_lr", "kl_weight", "wait", "ramp", "hold", "parametrization", "init", "threshold", "train_masking",
    "fine_tune", "num_samples",
)  # fmt: skip
THRESHOLDS = (-2.0, -1.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True)
class Protocol:
    """A training schedule with a name.

    Attributes:
        epochs: length of the run.
        wait, ramp: epochs without the KL, and epochs of its linear warm-up.
        hold: share of the run at the full learning rate, which then decays linearly to 0.
        dropout: rates of pretraining, on the input of the network and on that of every other layer.
        origins: datasets that the protocol is for; on another dataset the run is a variant.
        pretrain: epochs of dense training before the run.
        noise_lr: factor of the learning rate for the noise.
        kl_weight: weight of the KL after warm-up.
        shift: largest random shift of training images, in pixels.
        fine_tune: epochs without noise after pruning.
    """

    name: str
    epochs: int
    wait: int
    ramp: int
    hold: float
    dropout: tuple[float, float]
    origins: tuple[str, ...]
    pretrain: int = 0
    noise_lr: float = 1.0
    kl_weight: float = 1.0
    shift: int = 0
    fine_tune: int = 0

    def kl_schedule(self, epochs: int, wait: int | None = None, ramp: int | None = None) -> Schedule:
        """The KL warm-up, scaled to the length of the run, unless ``wait`` or ``ramp`` are given in epochs."""
        scale = epochs / self.epochs
        wait = round(self.wait * scale) if wait is None else wait
        return WarmUp(wait, max(1, round(self.ramp * scale)) if ramp is None else ramp)


@dataclass(frozen=True, kw_only=True)
class Args(cli.Training):
    """Arguments of every experiment in compression."""

    dataset: str
    """A name, an image folder, or auto."""
    scheme: tuple[str, ...]
    """One or more of guides.SCHEMES."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    epochs: int | None = None
    """Passes over the training set; by default the protocol's."""
    batch_size: int = 100
    lr: float = 1e-3
    noise_lr: float | None = None
    """Factor of the learning rate for the noise: log_sigma2, or the guide's other parameters. By default the
    protocol's, 3 for noise on units, 10 for the gates of L0. Below 1, means shrink before their noise has grown;
    above 1, the few parameters of a unit learn as fast as its many weights."""
    kl_weight: float | None = None
    """Weight of the KL after warm-up, by default the protocol's; below 1, less compression and less error."""
    wait: int | None = None
    """Epochs without the KL; by default the protocol's share of the run."""
    ramp: int | None = None
    """Epochs of linear warm-up of the KL after those; by default the protocol's share of the run."""
    hold: float | None = None
    """Share of the run at the full learning rate, then linear decay to 0; by default the protocol's."""
    parametrization: str = "log_sigma2"
    """log_sigma2 or log_alpha."""
    init: float | None = None
    """Initial value of that parameter; by default -10 (log_sigma2) or -8 (log_alpha)."""
    threshold: float | None = None
    """Weights with log_alpha at or above it are pruned; by default the scheme's: 3, for noise on units 0, for the
    scale of group horseshoe 3. The gates of L0 have no threshold."""
    pretrain: int | None = None
    """Epochs of dense training with Bernoulli dropout before the run, by default the protocol's; 0 starts from
    random weights."""
    fine_tune: int | None = None
    """Epochs of training without noise after pruning, by default the protocol's."""
    train_masking: bool | None = None
    """Leave weights above the threshold out of the mean during training too; by default yes, except for schemes with
    noise on units."""
    num_samples: int = 20
    """Weight draws of test_error_mc."""
    validation: int = 0
    """Hold out this many training images and report on them instead of the test set: for tuning."""
    out: Path
    """Folder of records, checkpoints, table and pictures."""

    protocol_fields: ClassVar[tuple[str, ...]] = (
        "batch_size", "lr", "noise_lr", "kl_weight", "wait", "ramp", "hold", "parametrization", "init", "threshold",
        "train_masking", "pretrain", "fine_tune", "validation",
    )  # fmt: skip

    @classmethod
    def defaults(cls) -> Record:
        """Values of the arguments that older records lack."""
        return {field.name: field.default for field in dataclasses.fields(cls)} | asdict(Pruning()) | PROTOCOL_DEFAULTS

    def settled(self, protocol: Protocol) -> Self:
        """Fills in the protocol's defaults for missing arguments, except those that depend on the scheme."""
        names = {"epochs", *PROTOCOL_DEFAULTS} - {"noise_lr"}
        open_ones = [name for name in names if getattr(self, name, 0) is None]
        return replace(self, **{name: getattr(protocol, name) for name in open_ones})

    def of_scheme(self, scheme: str, protocol: Protocol) -> Self:
        """Fills in the scheme's defaults for arguments that were not given, after ``settled``."""
        asked = {field.name: getattr(self, field.name) for field in dataclasses.fields(Pruning)}
        return replace(self, **asdict(pruning_settings(scheme, protocol.noise_lr, **asked)))


@dataclass(frozen=True)
class Table:
    """What the runs of one experiment share.

    Attributes:
        experiment: name of the experiment in records.
        network: name of the network in records.
        make: builds the network from a number of classes.
        split: the data, on the device.
        args: after ``Args.settled``; ``one_run`` fills in the scheme's defaults.
    """

    experiment: str
    protocol: Protocol
    network: str
    make: Callable[[int], nn.Module]
    split: DataSplits
    device: torch.device
    args: Args

    @property
    def epochs(self) -> int:
        return self.args.epochs or self.protocol.epochs

    @property
    def threshold(self) -> float:
        assert self.args.threshold is not None, "the scheme's threshold has not been filled in"
        return self.args.threshold

    @cached_property  # used after every epoch
    def inputs(self) -> Tensor:
        """Training images of all classes, for the running averages of batch normalization."""
        images = self.split.train.images
        some = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:NUM_AVERAGED_IMAGES]
        return images[some.to(images.device)]


def run_all(table: Table) -> None:
    """Runs every scheme with every seed, and reports all records in the folder."""
    for seed in range(table.args.seeds):
        for scheme in table.args.scheme:
            one_run(table, scheme, seed)
    _report(table.args.out)


def one_run(table: Table, scheme: str, seed: int) -> Record:
    """Trains and evaluates one network, or loads the record of the same run."""
    table = replace(table, args=table.args.of_scheme(scheme, table.protocol))
    args, split = table.args, table.split
    name, settings = _named(table, scheme, seed)
    # The training does not depend on what follows it.
    trained = _named(replace(table, args=replace(args, fine_tune=0, num_samples=1)), scheme, seed)
    before, path, checkpoint = load_or_start(args.out, name, settings, args.resume, args.defaults(), trained=trained)
    if before:
        return before
    print(f"{scheme}, seed {seed}: {split.name}, {table.network}, {table.epochs} epochs, {settings['protocol']}")
    net = initial_net(table.make, split, seed, table.device)
    dropout, shared = table.protocol.dropout, _shared(table, seed)
    if not args.resume:
        delete_run(path, shared)
    pretrain(net, split.train, args.pretrain or 0, args.batch_size, args.lr, seed, dropout, checkpoint, shared)
    posterior = make_pair(net, scheme, split, **_guide_options(args, scheme))
    try:
        posterior = _train(table, posterior, seed, checkpoint)
        pruned, tuning = fine_tune_pruned(posterior, table.threshold, split, args, seed, checkpoint, table.inputs)
        numbers = {**_evaluate(table, posterior, pruned), **tuning, **_deploy(table, posterior, pruned, path)}
    except NonFiniteError as error:
        print(f"diverged: {error}")
        posterior = Posterior(posterior.model, posterior.guide, posterior.history + error.history)
        numbers = diverged_numbers(sum(weight.numel() for weight in posterior.model.initial.values()))
    record = {**settings, **environment(table.device), **numbers, **training_log(posterior.history)}
    if not record["diverged"]:  # before the record, whose existence says that the run is complete
        pictures.draw_run(posterior, record, path.with_suffix(""))
    write_record(path, record)
    return record


def _shared(table: Table, seed: int) -> Path:
    """The checkpoint of the dense training, named after what it depends on: other runs in the folder share it."""
    unset = {name: getattr(Args, name) for name in POST_PRETRAINING_ARGUMENTS}
    plain = replace(table, args=replace(table.args, **unset).settled(table.protocol))
    name, settings = _named(plain, "none", seed)
    return run_paths(table.args.out, f"{name}-pretraining", settings)[1]


def _deploy(table: Table, posterior: Posterior, pruned: nn.Module, path: Path) -> Record:
    """Shrinks the network, writes it beside the record, and measures it."""
    split, threshold, file = table.split, table.threshold, path.with_suffix(".safetensors.xz")
    fresh = partial(table.make, split.classes)

    def measure() -> Record:
        small = shrink_pruned(pruned, split)
        return measure_files(posterior, small, split, threshold, fresh, file)

    return try_deploy(measure)


def _evaluate(table: Table, posterior: Posterior, pruned: nn.Module) -> Record:
    """The numbers of a record. Errors are fractions of the test set: ``test_error`` is that of the pruned network, the
    others and the curve are those of the posterior."""
    test = table.split.test
    counted = compression_report(pruned, posterior.model.priors)
    draws = posterior.predict(test.images, table.args.num_samples)
    return {
        "test_error": _error(pruned, test),
        "test_error_unpruned": _error(posterior.mean(inputs=table.inputs), test),
        "test_error_mc": error_rate(predictive_probabilities(draws), test.labels),
        "sparsity_per_layer": counted.sparsity_per_layer,
        "weights": counted.weights,
        "nonzero": counted.nonzero,
        "compression": _finite(counted.compression),
        "curve": _curve(table, posterior),
        "diverged": False,
    }


def _error(net: nn.Module, examples: LabeledImages) -> float:
    return error_rate(compute_logits(net, examples), examples.labels)


def _curve(table: Table, posterior: Posterior) -> list[dict[str, float | None]]:
    """Error and compression of the pruned mean at each threshold."""
    points = compress.pruning_curve(posterior, THRESHOLDS, partial(_error, examples=table.split.test), table.inputs)
    return [
        {"threshold": point.threshold, "error": point.metric, "compression": _finite(point.report.compression)}
        for point in points
    ]


def _report(out: Path) -> None:
    """Prints the table of every record in ``out`` and writes it with the comparison picture."""
    records = read_records(out)
    table = compression_tables(records)
    pictures.draw_curves(records, out / "curves.png")
    publish(table, out, "pictures")


def _train(table: Table, pair: Posterior, seed: int, checkpoint: Path) -> Posterior:
    args, split, epochs = table.args, table.split, table.epochs
    warmth = table.protocol.kl_schedule(epochs, args.wait, args.ramp)
    hold = table.protocol.hold if args.hold is None else args.hold

    def evaluate_epoch(epoch: int, current: Posterior) -> dict[str, float]:
        net = current.mean(current.masks(table.threshold), table.inputs)
        row = {"sparsity": compression_report(net, current.model.priors).sparsity}
        return {**row, "accuracy": 1 - _error(net, split.test)}

    return fit(
        pair.model,
        pair.guide,
        split.train,
        epochs=epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        lr_scale=lr_scale(pair, args.noise_lr),  # type: ignore[arg-type]
        lr_schedule=HoldThenDecay(min(round(hold * epochs), epochs - 1), epochs),
        kl_schedule=lambda epoch: args.kl_weight * warmth(epoch),  # type: ignore[operator]  # settled
        threshold=table.threshold if args.train_masking else None,
        engine=args.engine,  # type: ignore[arg-type]
        seed=seed,
        checkpoint=checkpoint,
        on_epoch=evaluate_epoch,
    )


def _named(table: Table, scheme: str, seed: int) -> tuple[str, Record]:
    """The stem of a run's files, and its settings."""
    settings = settings_of(table, scheme, seed)
    dataset = table.split.name.split(" ")[0]
    return _slug(f"{dataset}-{table.network}-{scheme}-{settings['protocol']}-s{seed}"), settings


def settings_of(table: Table, scheme: str, seed: int) -> Record:
    """The settings of a run in its record."""
    return {
        "experiment": table.experiment,
        "dataset": table.split.name,
        "data_sha256": table.split.sha256,
        **described(table.args, table.protocol, table.split.origin, table.network, scheme, seed),
    }


def described(args: Args, protocol: Protocol, origin: str, network: str, scheme: str, seed: int) -> Record:
    """The settings in the record of a run with these settled arguments, except the name and the digest of the data.

    Args:
        origin: name of the dataset from which the data were made.
    """
    args = args.of_scheme(scheme, protocol)
    return {
        "protocol": _protocol_name(args, protocol, origin),
        "network": network,
        "scheme": scheme,
        "prior": guides.prior_name(guides.SCHEMES[scheme]),
        "seed": seed,
        "epochs": args.epochs,
        **{name: getattr(args, name) for name in args.protocol_fields},
        "num_samples": args.num_samples,
    }


def _protocol_name(args: Args, protocol: Protocol, origin: str) -> str:
    """The name of the protocol if nothing is changed; else a name that lists the changes."""
    defaults = args.defaults() | {name: getattr(protocol, name) for name in PROTOCOL_DEFAULTS}
    values = {name: getattr(args, name) for name in args.protocol_fields}
    changed = [f"{name}={value}" for name, value in values.items() if value != defaults[name]]
    changed += [f"epochs={args.epochs}"] if args.epochs != protocol.epochs else []
    changed += [f"dataset={origin}"] if origin not in protocol.origins else []
    return f"variant of {protocol.name}: {', '.join(sorted(changed))}" if changed else protocol.name


def _slug(name: str) -> str:
    return slug(name.replace("variant of ", "").replace(": ", "-"))


def _guide_options(args: Args, scheme: str) -> dict:
    """The arguments that the scheme's guide takes; a scheme without a parametrization takes none."""
    return {"parametrization": args.parametrization, "init": args.init} if _has_parametrization(scheme) else {}


def _has_parametrization(scheme: str) -> bool:
    return "parametrization" in inspect.signature(guides.SCHEMES[scheme].Guide).parameters


def diverged_numbers(weights: int) -> Record:
    """The numbers in the record of a diverged run of a network with this many weights."""
    empty = dict.fromkeys(("test_error", "test_error_unpruned", "test_error_mc", "nonzero", "compression"))
    return {**empty, "sparsity_per_layer": {}, "weights": weights, "curve": [], "diverged": True}


def _finite(ratio: float) -> float | None:
    return ratio if ratio != float("inf") else None


def check(args: Args) -> None:
    """Refuses invalid arguments.

    Raises:
        UserError: naming the argument and its range.
    """
    if not args.scheme:
        raise UserError("--scheme needs at least one name")
    for scheme in args.scheme:
        cli.nearest("scheme", scheme, guides.SCHEMES)
    cli.nearest("parametrization", args.parametrization, BOUNDS)
    asked = (args.parametrization, args.init) != (Args.parametrization, Args.init)
    if asked and not all(_has_parametrization(scheme) for scheme in args.scheme if scheme != "none"):
        raise UserError("--parametrization and --init apply to schemes with noise on every weight; drop the others")
    for name in ("seeds", "batch_size", "num_samples"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")
    if args.epochs is not None and args.epochs < 1:
        raise UserError("--epochs must be at least 1")
    if min(args.validation, args.pretrain or 0, args.fine_tune or 0) < 0:
        raise UserError("--validation, --pretrain and --fine-tune must be at least 0")
    if args.hold is not None and not 0 <= args.hold <= 1:
        raise UserError("--hold must lie between 0 and 1: a share of the run")
    if (args.wait is not None and args.wait < 0) or (args.ramp is not None and args.ramp < 1):
        raise UserError("--wait must be at least 0, --ramp at least 1")
    check_threshold(args.threshold, args.scheme)
    low, high = BOUNDS[args.parametrization]
    if args.init is not None and not low <= args.init <= high:
        raise UserError(f"--init must lie in [{low:g}, {high:g}], the bounds of {args.parametrization}")
    rates = [rate for rate in (args.lr, args.noise_lr) if rate is not None]
    if not all(0 < rate < float("inf") for rate in rates):
        raise UserError("--lr and --noise-lr must be above 0 and finite")
    if args.kl_weight is not None and not 0 <= args.kl_weight < float("inf"):
        raise UserError("--kl-weight must be at least 0 and finite")
