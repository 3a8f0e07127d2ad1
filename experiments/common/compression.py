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
from pyro_vd.experiments.common import cli, pictures
from pyro_vd.experiments.common.fine_tune import fine_tuned
from pyro_vd.experiments.common.pretrain import pretrain
from pyro_vd.experiments.common.pruning import Pruning, check_threshold, lr_scale, pruning_of
from pyro_vd.experiments.common.records import (
    Record,
    begun,
    circumstances,
    course_of,
    files_of,
    read_records,
    slug,
    start_over,
    write_record,
)
from pyro_vd.experiments.common.shipping import if_it_can_be_shipped, shipped, small_one
from pyro_vd.experiments.common.tables import both_tables, publish
from pyro_vd.experiments.common.training import fit, fresh_net, signature
from pyro_vd.guides._gaussian import BOUNDS
from torch import Tensor, nn

from pyro_vd import NonFiniteError, Posterior, compress, compression_report, guides
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.inference.schedules import Schedule, hold_then_decay, warm_up
from pyro_vd.metrics import error_rate, logits_of, predictive_probabilities

__all__ = [
    "THRESHOLDS", "Args", "Protocol", "Table", "check", "described", "diverged_numbers", "every_run", "one_run",
    "settings_of",
]  # fmt: skip

AVERAGED = 10_000  # images that running averages are taken over
# Arguments whose default is the protocol's, with what they were where a record is older than that.
OF_PROTOCOL = {"pretrain": 0, "noise_lr": 1.0, "kl_weight": 1.0, "shift": 0, "fine_tune": 0}
# What a run does after its dense training, which is the same for all of it.
AFTER_PRETRAINING = (
    "epochs", "noise_lr", "kl_weight", "wait", "ramp", "hold", "parametrization", "init", "threshold", "train_masking",
    "fine_tune", "mc_samples",
)  # fmt: skip
THRESHOLDS = (-2.0, -1.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True)
class Protocol:
    """A training schedule with a name.

    Attributes:
        epochs: of the whole run.
        wait, ramp: epochs without KL, and of its linear warm-up.
        hold: share of the run at the full learning rate; then it falls linearly to 0.
        dropout: rates of pretraining, on the network's input and on that of every other layer.
        origins: the datasets that it is for; on another it is a variant.
        pretrain: epochs of dense training before it.
        noise_lr: factor of the learning rate for the noise.
        kl_weight: that of the KL after warm-up.
        shift: pixels by which training images are moved at random, each way.
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
        """The warm-up, in proportion where the run has another length; or the epochs that are given."""
        scale = epochs / self.epochs
        wait = round(self.wait * scale) if wait is None else wait
        return warm_up(wait, max(1, round(self.ramp * scale)) if ramp is None else ramp)


@dataclass(frozen=True, kw_only=True)
class Args(cli.Training):
    """What every experiment in compression asks for."""

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
    """Factor of the learning rate for the noise: log_sigma2, or what else the guide learns beside the means; by default
    the protocol's, of units 3, of L0's gates 10. Below 1, means shrink before their noise has grown; above 1, a few
    parameters per unit keep up with their many weights."""
    kl_weight: float | None = None
    """Weight of the KL after warm-up, by default the protocol's; below 1 it buys accuracy with compression."""
    wait: int | None = None
    """Epochs without KL; by default the protocol's share of the run."""
    ramp: int | None = None
    """Epochs over which its weight then rises; by default the protocol's share of the run."""
    hold: float | None = None
    """Share of the run at the full learning rate, then linear to 0; by default the protocol's."""
    parametrization: str = "log_sigma2"
    """log_sigma2 or log_alpha."""
    init: float | None = None
    """Start of that parameter; by default -10 (log_sigma2) or -8 (log_alpha)."""
    threshold: float | None = None
    """Weights with log_alpha at or above it are pruned; by default the scheme's: 3, of units 0, of group horseshoe's
    scale 3. L0's gates have none."""
    pretrain: int | None = None
    """Epochs of dense training with Bernoulli dropout that the run starts from, by default the protocol's; 0 starts
    from random weights."""
    fine_tune: int | None = None
    """Epochs in which the weights that pruning leaves are trained on without noise, by default the protocol's."""
    train_masking: bool | None = None
    """Leave weights above the threshold out of the mean during training too; by default so, but for schemes of
    units."""
    mc_samples: int = 20
    """Weight draws behind test_error_mc."""
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
        """What an older record that lacks an argument was made with."""
        return {field.name: field.default for field in dataclasses.fields(cls)} | asdict(Pruning()) | OF_PROTOCOL

    def settled(self, protocol: Protocol) -> Self:
        """These arguments with the protocol's epochs, and its own of ``OF_PROTOCOL``, where none were given; what
        depends on the scheme, too, stays open."""
        names = {"epochs", *OF_PROTOCOL} - {"noise_lr"}
        open_ones = [name for name in names if getattr(self, name, 0) is None]
        return replace(self, **{name: getattr(protocol, name) for name in open_ones})

    def of_scheme(self, scheme: str, protocol: Protocol) -> Self:
        """Settled arguments with what the scheme says where none were given."""
        asked = {field.name: getattr(self, field.name) for field in dataclasses.fields(Pruning)}
        return replace(self, **asdict(pruning_of(scheme, protocol.noise_lr, **asked)))


@dataclass(frozen=True)
class Table:
    """What the runs of one experiment share.

    Attributes:
        experiment: its name, in records.
        network: the network's name, in records.
        make: makes it, from a number of classes.
        split: the data, on the device.
        args: settled; ``one_run`` adds what the scheme says.
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
        assert self.args.threshold is not None, "the scheme's is not filled in yet"
        return self.args.threshold

    @cached_property  # asked for after every epoch
    def inputs(self) -> Tensor:
        """Training images of all classes, for the running averages of batch normalisation."""
        images = self.split.train.images
        some = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:AVERAGED]
        return images[some.to(images.device)]


def every_run(table: Table) -> None:
    """Every scheme with every seed, and the report of all records in the folder."""
    for seed in range(table.args.seeds):
        for scheme in table.args.scheme:
            one_run(table, scheme, seed)
    _report(table.args.out)


def one_run(table: Table, scheme: str, seed: int) -> Record:
    """Trains and evaluates one network, or returns the record of the same run done before."""
    table = replace(table, args=table.args.of_scheme(scheme, table.protocol))
    args, split = table.args, table.split
    name, settings = _named(table, scheme, seed)
    # The posterior is the same whatever comes after it.
    trained = _named(replace(table, args=replace(args, fine_tune=0, mc_samples=1)), scheme, seed)
    before, path, checkpoint = begun(args.out, name, settings, args.resume, args.defaults(), trained=trained)
    if before:
        return before
    print(f"{scheme}, seed {seed}: {split.name}, {table.network}, {table.epochs} epochs, {settings['protocol']}")
    net = fresh_net(table.make, split, seed, table.device)
    dropout, shared = table.protocol.dropout, _shared(table, seed)
    if not args.resume:
        start_over(path, shared)
    pretrain(net, split.train, args.pretrain or 0, args.batch_size, args.lr, seed, dropout, checkpoint, shared)
    posterior = signature(net, scheme, split, **_guide_options(args, scheme))
    try:
        posterior = _train(table, posterior, seed, checkpoint)
        pruned, tuning = fine_tuned(posterior, table.threshold, split, args, seed, checkpoint, table.inputs)
        numbers = {**_evaluate(table, posterior, pruned), **tuning, **_shipped(table, posterior, pruned, path)}
    except NonFiniteError as error:
        print(f"diverged: {error}")
        posterior = Posterior(posterior.model, posterior.guide, posterior.history + error.history)
        numbers = diverged_numbers(sum(weight.numel() for weight in posterior.model.initial.values()))
    record = {**settings, **circumstances(table.device), **numbers, **course_of(posterior.history)}
    if not record["diverged"]:  # before the record, which says that all is there
        pictures.draw_run(posterior, record, path.with_suffix(""))
    write_record(path, record)
    return record


def _shared(table: Table, seed: int) -> Path:
    """The checkpoint of the dense training, which other runs in the folder start from too: by what it depends on."""
    unset = {name: getattr(Args, name) for name in AFTER_PRETRAINING}
    plain = replace(table, args=replace(table.args, **unset).settled(table.protocol))
    name, settings = _named(plain, "none", seed)
    return files_of(table.args.out, f"{name}-pretraining", settings)[1]


def _shipped(table: Table, posterior: Posterior, pruned: nn.Module, path: Path) -> Record:
    """The sizes of the shrunk network, which goes beside the record."""
    split, threshold, file = table.split, table.threshold, path.with_suffix(".safetensors.xz")
    fresh = partial(table.make, split.classes)

    def measure() -> Record:
        small = small_one(pruned, split)
        return shipped(posterior, small, split, threshold, fresh, file)

    return if_it_can_be_shipped(measure)


def _evaluate(table: Table, posterior: Posterior, pruned: nn.Module) -> Record:
    """The numbers of a record: errors are fractions of the test set, ``test_error`` that of the pruned network; the
    others, and the curve, are the posterior's."""
    test = table.split.test
    counted = compression_report(pruned, posterior.model.priors)
    draws = posterior.predict(test.images, table.args.mc_samples)
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
    return error_rate(logits_of(net, examples), examples.labels)


def _curve(table: Table, posterior: Posterior) -> list[dict[str, float | None]]:
    """Error and compression of the pruned mean at each threshold."""
    points = compress.curve(posterior, THRESHOLDS, partial(_error, examples=table.split.test), table.inputs)
    return [
        {"threshold": point.threshold, "error": point.measured, "compression": _finite(point.report.compression)}
        for point in points
    ]


def _report(out: Path) -> None:
    """Prints the table of every record in ``out`` and writes it with the comparison picture."""
    records = read_records(out)
    table = both_tables(records)
    pictures.draw_curves(records, out / "curves.png")
    publish(table, out, "pictures")


def _train(table: Table, pair: Posterior, seed: int, checkpoint: Path) -> Posterior:
    args, split, epochs = table.args, table.split, table.epochs
    warmth = table.protocol.kl_schedule(epochs, args.wait, args.ramp)
    hold = table.protocol.hold if args.hold is None else args.hold

    def look(epoch: int, current: Posterior) -> dict[str, float]:
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
        lr_schedule=hold_then_decay(min(round(hold * epochs), epochs - 1), epochs),
        kl_schedule=lambda epoch: args.kl_weight * warmth(epoch),  # type: ignore[operator]  # settled
        threshold=table.threshold if args.train_masking else None,
        engine=args.engine,  # type: ignore[arg-type]
        seed=seed,
        checkpoint=checkpoint,
        on_epoch=look,
    )


def _named(table: Table, scheme: str, seed: int) -> tuple[str, Record]:
    """The stem of a run's files, and its settings."""
    settings = settings_of(table, scheme, seed)
    dataset = table.split.name.split(" ")[0]
    return _slug(f"{dataset}-{table.network}-{scheme}-{settings['protocol']}-s{seed}"), settings


def settings_of(table: Table, scheme: str, seed: int) -> Record:
    """What a record says of its run."""
    return {
        "experiment": table.experiment,
        "dataset": table.split.name,
        "data_sha256": table.split.sha256,
        **described(table.args, table.protocol, table.split.origin, table.network, scheme, seed),
    }


def described(args: Args, protocol: Protocol, origin: str, network: str, scheme: str, seed: int) -> Record:
    """What a record says of a run with these settled arguments, but for the very data, which were made from
    ``origin``."""
    args = args.of_scheme(scheme, protocol)
    return {
        "protocol": _protocol_name(args, protocol, origin),
        "network": network,
        "scheme": scheme,
        "prior": guides.prior_name(guides.SCHEMES[scheme]),
        "seed": seed,
        "epochs": args.epochs,
        **{name: getattr(args, name) for name in args.protocol_fields},
        "mc_samples": args.mc_samples,
    }


def _protocol_name(args: Args, protocol: Protocol, origin: str) -> str:
    """The protocol's own name on data that it is for; anything else says what it changes."""
    defaults = args.defaults() | {name: getattr(protocol, name) for name in OF_PROTOCOL}
    values = {name: getattr(args, name) for name in args.protocol_fields}
    changed = [f"{name}={value}" for name, value in values.items() if value != defaults[name]]
    changed += [f"epochs={args.epochs}"] if args.epochs != protocol.epochs else []
    changed += [f"dataset={origin}"] if origin not in protocol.origins else []
    return f"variant of {protocol.name}: {', '.join(sorted(changed))}" if changed else protocol.name


def _slug(name: str) -> str:
    return slug(name.replace("variant of ", "").replace(": ", "-"))


def _guide_options(args: Args, scheme: str) -> dict:
    """What the scheme's guide takes of the arguments; a scheme without a parametrization has a start of its own."""
    return {"parametrization": args.parametrization, "init": args.init} if _is_parametrised(scheme) else {}


def _is_parametrised(scheme: str) -> bool:
    return "parametrization" in inspect.signature(guides.SCHEMES[scheme].Guide).parameters


def diverged_numbers(weights: int) -> Record:
    """What stands in the place of the numbers of a run that did not come to its end, of so many weights."""
    empty = dict.fromkeys(("test_error", "test_error_unpruned", "test_error_mc", "nonzero", "compression"))
    return {**empty, "sparsity_per_layer": {}, "weights": weights, "curve": [], "diverged": True}


def _finite(ratio: float) -> float | None:
    return ratio if ratio != float("inf") else None


def check(args: Args) -> None:
    """Refuses arguments that make no run.

    Raises:
        UserError: naming the argument and what it can be.
    """
    if not args.scheme:
        raise UserError("--scheme needs a name at least")
    for scheme in args.scheme:
        cli.nearest("scheme", scheme, guides.SCHEMES)
    cli.nearest("parametrization", args.parametrization, BOUNDS)
    asked = (args.parametrization, args.init) != (Args.parametrization, Args.init)
    if asked and not all(_is_parametrised(scheme) for scheme in args.scheme if scheme != "none"):
        raise UserError("--parametrisation and --init are of schemes with noise on every weight; drop the others")
    for name in ("seeds", "batch_size", "mc_samples"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} has to be at least 1")
    if args.epochs is not None and args.epochs < 1:
        raise UserError("--epochs has to be at least 1")
    if min(args.validation, args.pretrain or 0, args.fine_tune or 0) < 0:
        raise UserError("--validation, --pretrain and --fine-tune have to be at least 0")
    if args.hold is not None and not 0 <= args.hold <= 1:
        raise UserError("--hold has to lie between 0 and 1: a share of the run")
    if (args.wait is not None and args.wait < 0) or (args.ramp is not None and args.ramp < 1):
        raise UserError("--wait has to be at least 0, --ramp at least 1")
    check_threshold(args.threshold, args.scheme)
    low, high = BOUNDS[args.parametrization]
    if args.init is not None and not low <= args.init <= high:
        raise UserError(f"--init has to lie in [{low:g}, {high:g}], the bounds of {args.parametrization}")
    rates = [rate for rate in (args.lr, args.noise_lr) if rate is not None]
    if not all(0 < rate < float("inf") for rate in rates):
        raise UserError("--lr and --noise-lr have to be above 0 and finite")
    if args.kl_weight is not None and not 0 <= args.kl_weight < float("inf"):
        raise UserError("--kl-weight has to be at least 0 and finite")
