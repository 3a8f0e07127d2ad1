"""Baselines of Bayesian compression: gradual magnitude pruning and the lottery ticket.

``python -m experiments.pruning_baselines`` trains them on MNIST with the number of gradient steps of mnist_compress's
best rows of LeNet-300-100 (30 epochs of dense training with dropout, then 100), prunes to the sparsities of these rows,
and writes records of the same kind. For another row, give its ``--pretrain``, ``--epochs`` and ``--sparsity``. An
interrupted run resumes.

Gradual: Zhu and Gupta 2017, eq. 1, with one ranking over all layers, so that each layer has its own sparsity (Gale et
al. 2019 found uniform sparsities worse). Lottery: Frankle and Carbin 2019, rounds of training from the same initial
weights, each of which prunes the same share of the remaining weights. With this few epochs, rounds prune larger shares
and the last ticket trains for fewer epochs than in the paper. L0 gates are a scheme of mnist_compress.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pyro_vd import NonFiniteError, Posterior, compression_report, guides
from pyro_vd.compress import top_k_masks
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.compression import diverged_numbers
from pyro_vd.experiments.common.deployment import measure_files, shrink_pruned, try_deploy
from pyro_vd.experiments.common.pretrain import pretrain
from pyro_vd.experiments.common.records import (
    Record,
    environment,
    load_or_start,
    read_records,
    slug,
    training_log,
    write_record,
)
from pyro_vd.experiments.common.tables import compression_tables, publish
from pyro_vd.experiments.common.training import (
    MNIST_NETWORKS,
    fit,
    initial_net,
    load_data,
    make_masked_pair,
    with_random_shift,
)
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.metrics import compute_logits, error_rate
from pyro_vd.models import NETWORKS

EXPERIMENT = "pruning_baselines"
METHODS = ("magnitude", "lottery")


@dataclass(frozen=True)
class Args(cli.Training):
    """Trains and prunes by the baselines, and prints their tables."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it can be loaded, else digits."""
    network: str = "lenet300"
    """lenet300 or lenet5."""
    method: tuple[str, ...] = METHODS
    """One or more of magnitude and lottery."""
    sparsity: tuple[float, ...] = (0.98, 0.991)
    """Shares of pruned weights; the defaults are compressions of 50 and 110."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    epochs: int = 100
    """Passes over the training set after pretraining; lottery rounds share these and those of pretraining."""
    pretrain: int = 30
    """Epochs of dense training with Bernoulli dropout before gradual pruning."""
    start: float = 0.0
    """Share of the epochs before gradual pruning begins."""
    end: float = 0.2
    """Share of the epochs after which gradual pruning ends; the rest is fine-tuning."""
    rounds: int = 13
    """Rounds of the lottery; the last one trains the final ticket."""
    batch_size: int = 100
    lr: float = 1e-3
    hold: float = 0.5
    """Share of the epochs at the full learning rate, then linear decay to 0."""
    shift: int = 0
    """Largest random shift of training images, in pixels."""
    validation: int = 0
    """Hold out this many training images and report on them instead of the test set: for tuning."""
    out: Path = Path("runs/pruning_baselines")
    """Folder of records, checkpoints and tables."""


METHOD_ARGUMENTS = {"magnitude": ("start", "end"), "lottery": ("rounds",)}
SHARED_ARGUMENTS = ("batch_size", "lr", "hold", "shift", "validation")
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Args)}


def main(args: Args) -> None:
    _check(args)
    device = cli.begin(args)
    split = load_data(args.dataset, NETWORKS[args.network](), args.data, validation=args.validation).to(device)
    for seed in range(args.seeds):
        for method in args.method:
            for sparsity in args.sparsity:
                one_run(args, split, method, sparsity, seed, device)
    tables = compression_tables(read_records(args.out))
    publish(tables, args.out)


def one_run(args: Args, split: DataSplits, method: str, sparsity: float, seed: int, device: torch.device) -> Record:
    """Trains, prunes and evaluates one network, or loads the record of the same run."""
    split = with_random_shift(split, args.shift)
    data = {"dataset": split.name, "data_sha256": split.sha256}
    settings = described(args, method, sparsity, seed) | data
    kind = f"{split.name.split(' ')[0]}-{args.network}-{method}-{sparsity:g}"
    name = slug(f"{kind}-{settings['protocol']}-s{seed}")
    before, path, checkpoint = load_or_start(args.out, name, settings, args.resume, DEFAULTS)
    if before:
        return before
    print(f"{method} to {share(sparsity)}, seed {seed}: {split.name}, {args.network}")
    train = {"magnitude": _gradual, "lottery": _lottery}[method]
    try:
        numbers = _numbers(args, train(args, split, sparsity, seed, device, checkpoint), split, path)
    except NonFiniteError as error:
        print(f"diverged: {error}")
        numbers = {**diverged_numbers(_weights(args.network)), **training_log(error.history)}
    record = {**settings, **environment(device), **numbers}
    write_record(path, record)
    return record


def share(sparsity: float) -> str:
    """The sparsity in percent, with two digits after the point, or more if it has more."""
    return f"{sparsity:.2%}" if round(sparsity, 4) == sparsity else f"{100 * sparsity:.10g}%"


def sparsity_at(epoch: int, epochs: int, final: float, start: float, end: float) -> float:
    """Share of pruned weights after ``epoch`` epochs: Zhu and Gupta 2017, eq. 1, with initial sparsity 0."""
    progress = (epoch / epochs - start) / (end - start)
    return final * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)


def _gradual(
    args: Args, split: DataSplits, sparsity: float, seed: int, device: torch.device, checkpoint: Path
) -> Posterior:
    net = initial_net(NETWORKS[args.network], split, seed, device)
    like = mnist_compress.Args(network=args.network)
    dropout = mnist_compress.protocol_of(like, split.origin).dropout  # as in the rows that it is compared with
    pretrain(net, split.train, args.pretrain, args.batch_size, args.lr, seed, dropout, checkpoint)
    pair = make_masked_pair(net, split)

    def narrow(epoch: int, current: Posterior) -> dict[str, float]:
        share = sparsity_at(epoch + 1, args.epochs, sparsity, args.start, args.end)
        masks = top_k_masks(_magnitudes(current), share)
        pair.guide.set_masks(masks)  # type: ignore[operator]
        kept = torch.cat([mask.flatten() for mask in masks.values()])
        return {"sparsity": 1 - int(kept.sum()) / len(kept)}

    return _fit(args, pair, split, args.epochs, seed, checkpoint, narrow)


def _lottery(
    args: Args, split: DataSplits, sparsity: float, seed: int, device: torch.device, checkpoint: Path
) -> Posterior:
    net = initial_net(NETWORKS[args.network], split, seed, device)
    epochs, left = divmod(args.epochs + args.pretrain, args.rounds)
    kept = (1 - sparsity) ** (1 / (args.rounds - 1))  # of the remaining weights, by each round except the last
    pair, history = make_masked_pair(net, split), []
    for number in range(args.rounds):
        if number:
            masks = top_k_masks(_magnitudes(pair), 1 - kept**number)
            pair = make_masked_pair(net, split, masks)  # from the initial weights
        run = checkpoint.with_name(f"{checkpoint.name}-round{number}")
        last = number == args.rounds - 1  # it gets the remaining epochs
        pair = _fit(args, pair, split, epochs + left * last, seed, run)
        history += [{**row, "round": number} for row in pair.history]
    pair.history = history
    return pair


def _magnitudes(posterior: Posterior) -> dict[str, Tensor]:
    net = posterior.mean()
    return {site: net.get_parameter(site).detach().abs() for site in posterior.model.priors}


def _fit(args: Args, pair: Posterior, split: DataSplits, epochs: int, seed: int, run: Path, on_epoch=None) -> Posterior:
    return fit(
        pair.model,
        pair.guide,
        split.train,
        epochs=epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        lr_schedule=HoldThenDecay(min(round(args.hold * epochs), epochs - 1), epochs),
        engine=args.engine,  # type: ignore[arg-type]
        seed=seed,
        checkpoint=run,
        on_epoch=on_epoch,
    )


def _numbers(args: Args, posterior: Posterior, split: DataSplits, path: Path) -> Record:
    net = posterior.mean()
    counted = compression_report(net, posterior.model.priors)
    error = error_rate(compute_logits(net, split.test), split.test.labels)
    fresh = partial(NETWORKS[args.network], split.classes)
    file = path.with_suffix(".safetensors.xz")
    return {
        "test_error": error,
        "test_error_unpruned": None,
        "test_error_mc": None,
        "sparsity_per_layer": counted.sparsity_per_layer,
        "weights": counted.weights,
        "nonzero": counted.nonzero,
        "compression": counted.compression,
        "curve": [],
        "diverged": False,
        **try_deploy(lambda: measure_files(posterior, shrink_pruned(net, split), split, 0.0, fresh, file)),
        **training_log(posterior.history),
    }


def _weights(network: str) -> int:
    return sum(parameter.numel() for parameter in NETWORKS[network]().parameters() if parameter.ndim > 1)


def described(args: Args, method: str, sparsity: float, seed: int) -> Record:
    """The settings of a run in its record, without those of the data."""
    tuned = {name: getattr(args, name) for name in (*METHOD_ARGUMENTS[method], *SHARED_ARGUMENTS)}
    changed = [f"{name}={value}" for name, value in tuned.items() if value != DEFAULTS[name]]
    return {
        "experiment": EXPERIMENT,
        "protocol": ", ".join([f"{args.pretrain} + {args.epochs} epochs", *changed]),
        "scheme": f"{method}, {share(sparsity)}",
        "prior": guides.prior_name(guides.none),
        "seed": seed,
        "threshold": None,
        "num_samples": 1,
        **{name: getattr(args, name) for name in ("network", "epochs", "pretrain")},
        **tuned,
    }


def _check(args: Args) -> None:
    cli.nearest("network", args.network, MNIST_NETWORKS)
    if not args.method or not args.sparsity:
        raise UserError("--method and --sparsity need at least one value")
    for method in args.method:
        cli.nearest("method", method, METHODS)
    if not all(0 < sparsity < 1 for sparsity in args.sparsity):
        raise UserError("--sparsity must lie between 0 and 1: the share of pruned weights")
    weights = _weights(args.network)
    if round(max(args.sparsity) * weights) == weights:
        raise UserError(f"--sparsity {max(args.sparsity)} leaves none of {weights:,} weights")
    if not 0 <= args.start < args.end <= 1 or not 0 <= args.hold <= 1:
        raise UserError(
            "--start must be below --end, and --start, --end and --hold must lie between 0 and 1: shares of the epochs"
        )
    if "lottery" in args.method and not 2 <= args.rounds <= args.epochs + args.pretrain:
        raise UserError("--rounds must be at least 2, and --epochs and --pretrain together at least --rounds")
    if min(args.seeds, args.batch_size, args.epochs) < 1 or min(args.validation, args.pretrain) < 0:
        raise UserError("--seeds, --batch-size and --epochs must be at least 1, --validation and --pretrain at least 0")
    if not 0 < args.lr < float("inf"):
        raise UserError("--lr must be above 0 and finite")


if __name__ == "__main__":
    cli.run(Args, main)
