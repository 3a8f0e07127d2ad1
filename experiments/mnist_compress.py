"""Compression of LeNet-300-100 and LeNet-5 by sparse and hierarchical variational dropout.

``python -m experiments.mnist_compress`` trains none, sparse and hierarchical on MNIST (or, offline, on scikit-learn's
digits by a short protocol of its own), prunes at the posterior's log_alpha, and prints error and compression beside
the published numbers. Every run leaves one JSON record; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import guides
from experiments.common import cli, pictures
from experiments.common.pretrain import pretrain
from experiments.common.records import Record, circumstances, finished, read_records, start_over, write_record
from experiments.common.shipping import shipped
from experiments.common.tables import both_tables
from experiments.common.training import data_for, fresh_net, pair_of
from guides._gaussian import BOUNDS
from models import NETWORKS
from pyro_vd import NonFiniteError, Posterior, compress, compression_report, fit
from pyro_vd import checkpoint as checkpoints
from pyro_vd.data import Split
from pyro_vd.errors import UserError
from pyro_vd.metrics import error_rate, logits_of, mean_probabilities
from pyro_vd.schedules import Schedule, hold_then_decay, warm_up

EXPERIMENT = "mnist_compress"
THRESHOLDS = (-2.0, -1.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True)
class Protocol:
    """A training schedule with a name. ``wait`` and ``ramp`` are the epochs without KL and of its linear warm-up."""

    name: str
    epochs: int
    wait: int
    ramp: int

    def kl_schedule(self, epochs: int, wait: int | None = None, ramp: int | None = None) -> Schedule:
        """The warm-up, in proportion where the run has another length; or the epochs that are given."""
        scale = epochs / self.epochs
        wait = round(self.wait * scale) if wait is None else wait
        return warm_up(wait, max(1, round(self.ramp * scale)) if ramp is None else ramp)


HEADLINE = Protocol("headline", epochs=200, wait=5, ramp=15)  # Molchanov et al. 2017, published scripts
# 1,437 images: the KL of 266,200 weights is 250 nats per example at the start, and a short warm-up empties the network.
DIGITS = Protocol("digits-short", epochs=100, wait=10, ramp=50)
HOLD = {"lenet300": 0.5, "lenet5": 0.0}  # share of the run at the full learning rate, then linear to 0


@dataclass(frozen=True)
class Args(cli.Training):
    """Trains, prunes, and prints the compression table."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it is or can be had, else digits."""
    network: str = "lenet300"
    """lenet300 or lenet5."""
    scheme: tuple[str, ...] = ("none", "sparse", "hierarchical")
    """One or more of guides.SCHEMES."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    epochs: int | None = None
    """Passes over the training set; by default 200, on digits 100."""
    batch_size: int = 100
    lr: float = 1e-3
    kl_weight: float = 1.0
    """Weight of the KL after warm-up; below 1 it buys accuracy with compression."""
    wait: int | None = None
    """Epochs without KL; by default the protocol's, 5 of 200."""
    ramp: int | None = None
    """Epochs over which its weight then rises; by default the protocol's, 15 of 200."""
    hold: float | None = None
    """Share of the run at the full learning rate, then linear to 0; by default 0.5 for lenet300 and 0 for lenet5."""
    parametrisation: str = "log_sigma2"
    """log_sigma2 or log_alpha."""
    init: float | None = None
    """Start of that parameter; by default -10 (log_sigma2) or -8 (log_alpha)."""
    threshold: float = 3.0
    """Weights with log_alpha at or above it are pruned."""
    pretrain: int = 0
    """Epochs of dense training with Bernoulli dropout that the run starts from; 0 starts from random weights."""
    train_masking: bool = True
    """Leave weights above the threshold out of the mean during training too."""
    mc_samples: int = 20
    """Weight draws behind test_error_mc."""
    validation: int = 0
    """Hold out this many training images and report on them instead of the test set: for tuning."""
    out: Path = Path("runs/mnist_compress")
    """Folder of records, checkpoints, table and pictures."""


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Args)}


def main(args: Args) -> None:
    _check(args)
    device = cli.begin(args)
    split = data_for(args.dataset, NETWORKS[args.network](), args.data).to(device)
    if args.validation:
        split = split.with_validation(args.validation)
    for seed in range(args.seeds):
        for scheme in args.scheme:
            one_run(args, split, scheme, seed, device)
    report(args.out)


def one_run(args: Args, split: Split, scheme: str, seed: int, device: torch.device) -> Record:
    """Trains and evaluates one network, or returns the record of the same run done before."""
    settings = _settings(args, split, scheme, seed)
    name = f"{split.name.split(' ')[0]}-{args.network}-{scheme}-{_slug(settings['protocol'])}-s{seed}"
    path = args.out / f"{name}.json"
    checkpoint = args.out / "checkpoints" / name
    if not args.resume:
        start_over(path, checkpoint)
    if path.exists():
        return finished(path, settings, DEFAULTS)
    print(f"{scheme}, seed {seed}: {split.name}, {args.network}, {settings['epochs']} epochs, {settings['protocol']}")
    net = fresh_net(NETWORKS[args.network], split, seed, device)
    if args.pretrain and not checkpoints.exists(checkpoint):
        pretrain(net, split.train, args.pretrain, args.batch_size, args.lr, seed)
    pair = pair_of(net, scheme, split, **_guide_options(args, scheme))
    try:
        posterior = _train(args, pair, split, seed, settings["epochs"], checkpoint)
        numbers = evaluate(posterior, split, args.threshold, args.mc_samples)
        numbers["shipped"] = _shipped(args, posterior, split, path)
    except NonFiniteError as error:
        print(f"diverged: {error}")
        posterior = Posterior(pair.model, pair.guide, error.history)
        numbers = _diverged(posterior)
    record = {**settings, **circumstances(device), **numbers, "seconds": _seconds(posterior),
              "history": posterior.history}  # fmt: skip
    write_record(path, record)
    if not record["diverged"]:
        pictures.draw_run(posterior, record, path.with_suffix(""))
    return record


def _shipped(args: Args, posterior: Posterior, split: Split, path: Path) -> Record:
    """The sizes of the shrunk network, which goes beside the record."""
    images, _ = split.train.batch(torch.arange(min(64, len(split.train))))
    small = compress.shrink(posterior.mean(args.threshold), images)
    fresh = partial(NETWORKS[args.network], split.classes)
    return shipped(posterior, small, split, args.threshold, fresh, path.with_suffix(".safetensors.xz"))


def evaluate(posterior: Posterior, split: Split, threshold: float, mc_samples: int) -> Record:
    """The numbers of a record: errors are fractions of the test set, ``test_error`` that of the pruned mean."""
    labels = split.test.labels
    pruned = posterior.mean(threshold)
    counted = compression_report(pruned, posterior.model.priors)
    draws = posterior.predict(split.test.images, mc_samples)
    return {
        "test_error": error_rate(logits_of(pruned, split.test), labels),
        "test_error_unpruned": error_rate(logits_of(posterior.mean(), split.test), labels),
        "test_error_mc": error_rate(mean_probabilities(draws), labels),
        "sparsity_per_layer": counted.sparsity_per_layer,
        "weights": counted.weights,
        "nonzero": counted.nonzero,
        "compression": _finite(counted.compression),
        "curve": curve(posterior, split),
        "diverged": False,
    }


def curve(posterior: Posterior, split: Split) -> list[dict[str, float | None]]:
    """Error and compression of the pruned mean at each threshold."""
    points = compress.curve(
        posterior, THRESHOLDS, lambda net: error_rate(logits_of(net, split.test), split.test.labels)
    )
    return [
        {"threshold": point.threshold, "error": point.measured, "compression": _finite(point.report.compression)}
        for point in points
    ]


def report(out: Path) -> None:
    """Prints the table of every record in ``out`` and writes it with the comparison picture."""
    records = read_records(out)
    table = both_tables(records)
    (out / "table.md").write_text(table + "\n")
    pictures.draw_curves(records, out / "curves.png")
    print(f"\n{table}\n\nrecords, table.md and pictures: {out}")


def _train(args: Args, pair: Posterior, split: Split, seed: int, epochs: int, checkpoint: Path) -> Posterior:
    warmth = _protocol_of(split).kl_schedule(epochs, args.wait, args.ramp)
    hold = HOLD[args.network] if args.hold is None else args.hold

    def look(epoch: int, current: Posterior) -> dict[str, float]:
        net = current.mean(args.threshold)
        row = {"sparsity": compression_report(net, current.model.priors).sparsity}
        return {**row, "accuracy": 1 - error_rate(logits_of(net, split.test), split.test.labels)}

    return fit(
        pair.model,
        pair.guide,
        split.train,
        epochs=epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        lr_schedule=hold_then_decay(min(round(hold * epochs), epochs - 1), epochs),
        kl_schedule=lambda epoch: args.kl_weight * warmth(epoch),
        threshold=args.threshold if args.train_masking else None,
        engine=args.engine,  # type: ignore[arg-type]
        seed=seed,
        run=checkpoint,
        on_epoch=look,
    )


def _settings(args: Args, split: Split, scheme: str, seed: int) -> Record:
    epochs = args.epochs or _protocol_of(split).epochs
    return {
        "experiment": EXPERIMENT,
        "protocol": _protocol_name(args, split, epochs),
        "dataset": split.name,
        "data_sha256": split.sha256,
        "network": args.network,
        "scheme": scheme,
        "prior": guides.prior_name(guides.SCHEMES[scheme]),
        "seed": seed,
        "epochs": epochs,
        **{name: getattr(args, name) for name in PROTOCOL_FIELDS},
        "mc_samples": args.mc_samples,
    }


def _protocol_of(split: Split) -> Protocol:
    return DIGITS if split.origin == "digits" else HEADLINE


def _protocol_name(args: Args, split: Split, epochs: int) -> str:
    """``headline`` for the table's protocol on real MNIST; anything else says what it changes."""
    protocol = _protocol_of(split)
    changed = [
        f"{field.name}={getattr(args, field.name)}"
        for field in dataclasses.fields(Args)
        if field.name in PROTOCOL_FIELDS and getattr(args, field.name) != field.default
    ]
    changed += [f"epochs={epochs}"] if epochs != protocol.epochs else []
    changed += [f"dataset={split.origin}"] if split.origin not in ("mnist", "digits") else []
    return f"variant of {protocol.name}: {', '.join(sorted(changed))}" if changed else protocol.name


PROTOCOL_FIELDS = (
    "batch_size", "lr", "kl_weight", "wait", "ramp", "hold", "parametrisation", "init", "threshold", "train_masking",
    "pretrain", "validation",
)  # fmt: skip


def _slug(protocol: str) -> str:
    return "".join(
        c if c.isalnum() or c in "=.-" else "_" for c in protocol.replace("variant of ", "").replace(": ", "-")
    )


def _guide_options(args: Args, scheme: str) -> dict:
    """What the scheme's guide takes of the arguments; a scheme without a parametrisation has a start of its own."""
    return {"parametrisation": args.parametrisation, "init": args.init} if _is_parametrised(scheme) else {}


def _is_parametrised(scheme: str) -> bool:
    return "parametrisation" in inspect.signature(guides.SCHEMES[scheme].Guide).parameters


def _diverged(posterior: Posterior) -> Record:
    weights = sum(weight.numel() for weight in posterior.model.initial.values())
    empty = dict.fromkeys(("test_error", "test_error_unpruned", "test_error_mc", "nonzero", "compression"))
    return {**empty, "sparsity_per_layer": {}, "weights": weights, "curve": [], "diverged": True}


def _seconds(posterior: Posterior) -> float:
    return sum(row["seconds"] for row in posterior.history)


def _finite(ratio: float) -> float | None:
    return ratio if ratio != float("inf") else None


def _check(args: Args) -> None:
    cli.nearest("network", args.network, NETWORKS)
    for scheme in args.scheme:
        cli.nearest("scheme", scheme, guides.SCHEMES)
    cli.nearest("parametrisation", args.parametrisation, BOUNDS)
    asked = (args.parametrisation, args.init) != (Args.parametrisation, Args.init)
    if asked and not all(_is_parametrised(scheme) for scheme in args.scheme if scheme != "none"):
        raise UserError("--parametrisation and --init are of schemes with noise on every weight; drop the others")
    for name in ("seeds", "batch_size", "mc_samples"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} has to be at least 1")
    if args.epochs is not None and args.epochs < 1:
        raise UserError("--epochs has to be at least 1")
    if min(args.validation, args.pretrain) < 0:
        raise UserError("--validation and --pretrain have to be at least 0")
    if args.hold is not None and not 0 <= args.hold <= 1:
        raise UserError("--hold has to lie between 0 and 1: a share of the run")
    if (args.wait is not None and args.wait < 0) or (args.ramp is not None and args.ramp < 1):
        raise UserError("--wait has to be at least 0, --ramp at least 1")
    if not math.isfinite(args.threshold):
        raise UserError("--threshold has to be finite; --no-train-masking trains without it")
    low, high = BOUNDS[args.parametrisation]
    if args.init is not None and not low <= args.init <= high:
        raise UserError(f"--init has to lie in [{low:g}, {high:g}], the bounds of {args.parametrisation}")
    if not 0 < args.lr < float("inf") or not 0 <= args.kl_weight < float("inf"):
        raise UserError("--lr has to be above 0 and --kl-weight at least 0, both finite")


if __name__ == "__main__":
    cli.run(Args, main)
