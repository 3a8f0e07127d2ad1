"""What Bayesian compression has to beat: magnitude pruning, gradually or by the lottery ticket.

``python -m experiments.pruning_baselines`` trains them on MNIST with the gradient steps of mnist_compress's best rows
of LeNet-300-100 (30 epochs of dense training with dropout, then 100), prunes to the sparsities that those reached, and
writes records of the same kind; for another row, give its ``--pretrain``, ``--epochs`` and ``--sparsity``. An
interrupted run goes on where it stopped.

Gradual: Zhu and Gupta 2017, eq. 1, one ranking over all layers, so that layers end at sparsities of their own (Gale et
al. 2019 found uniform ones worse). Lottery: Frankle and Carbin 2019, rounds of training from the same initial weights,
each taking the same share of the weights that are left: so many rounds in so few epochs take larger shares, and give
the last ticket fewer epochs, than theirs. L0 gates are a scheme of mnist_compress.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.compression import diverged_numbers
from pyro_vd.experiments.common.pretrain import pretrain
from pyro_vd.experiments.common.records import (
    Record,
    begun,
    circumstances,
    course_of,
    read_records,
    slug,
    write_record,
)
from pyro_vd.experiments.common.shipping import if_it_can_be_shipped, shipped, small_one
from pyro_vd.experiments.common.tables import both_tables, publish
from pyro_vd.experiments.common.training import data_for, fit, fresh_net, masked_pair, shifted
from pyro_vd.models import NETWORKS
from torch import Tensor

from pyro_vd import NonFiniteError, Posterior, compression_report, guides
from pyro_vd.compress import top_k_masks
from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.inference.schedules import hold_then_decay
from pyro_vd.metrics import error_rate, logits_of

EXPERIMENT = "pruning_baselines"
METHODS = ("magnitude", "lottery")


@dataclass(frozen=True)
class Args(cli.Training):
    """Trains and prunes by the baselines, and prints their tables."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it is or can be had, else digits."""
    network: str = "lenet300"
    """lenet300 or lenet5."""
    method: tuple[str, ...] = METHODS
    """One or more of magnitude and lottery."""
    sparsity: tuple[float, ...] = (0.98, 0.991)
    """Shares of the weights that go: 50 times and 110 times fewer weights."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    epochs: int = 100
    """Passes over the training set after pretraining; the lottery's rounds share these and those of pretraining."""
    pretrain: int = 30
    """Epochs of dense training with Bernoulli dropout that gradual pruning starts from."""
    start: float = 0.0
    """Share of the epochs before gradual pruning begins."""
    end: float = 0.2
    """Share of the epochs after which it has reached its sparsity; the rest is fine-tuning."""
    rounds: int = 13
    """Rounds of the lottery, the last of which trains what is left."""
    batch_size: int = 100
    lr: float = 1e-3
    hold: float = 0.5
    """Share of the epochs at the full learning rate, then linear to 0."""
    shift: int = 0
    """Move every training image at random by up to so many pixels each way."""
    validation: int = 0
    """Hold out this many training images and report on them instead of the test set: for tuning."""
    out: Path = Path("runs/pruning_baselines")
    """Folder of records, checkpoints and tables."""


OF_METHOD = {"magnitude": ("start", "end"), "lottery": ("rounds",)}
OF_BOTH = ("batch_size", "lr", "hold", "shift", "validation")
DEFAULTS = {field.name: field.default for field in dataclasses.fields(Args)}


def main(args: Args) -> None:
    _check(args)
    device = cli.begin(args)
    split = data_for(args.dataset, NETWORKS[args.network](), args.data, validation=args.validation).to(device)
    for seed in range(args.seeds):
        for method in args.method:
            for sparsity in args.sparsity:
                one_run(args, split, method, sparsity, seed, device)
    tables = both_tables(read_records(args.out))
    publish(tables, args.out)


def one_run(args: Args, split: DataSplits, method: str, sparsity: float, seed: int, device: torch.device) -> Record:
    """Trains, prunes and evaluates one network, or returns the record of the same run done before."""
    split = shifted(split, args.shift)
    data = {"dataset": split.name, "data_sha256": split.sha256}
    settings = described(args, method, sparsity, seed) | data
    kind = f"{split.name.split(' ')[0]}-{args.network}-{method}-{sparsity:g}"
    name = slug(f"{kind}-{settings['protocol']}-s{seed}")
    before, path, checkpoint = begun(args.out, name, settings, args.resume, DEFAULTS)
    if before:
        return before
    print(f"{method} to {share(sparsity)}, seed {seed}: {split.name}, {args.network}")
    train = {"magnitude": _gradual, "lottery": _lottery}[method]
    try:
        numbers = _numbers(args, train(args, split, sparsity, seed, device, checkpoint), split, path)
    except NonFiniteError as error:
        print(f"diverged: {error}")
        numbers = {**diverged_numbers(_weights(args.network)), **course_of(error.history)}
    record = {**settings, **circumstances(device), **numbers}
    write_record(path, record)
    return record


def share(sparsity: float) -> str:
    """In percent, with two digits after the point or as many as it has."""
    return f"{sparsity:.2%}" if round(sparsity, 4) == sparsity else f"{100 * sparsity:.10g}%"


def sparsity_at(epoch: int, epochs: int, final: float, start: float, end: float) -> float:
    """Share of weights that are gone after ``epoch`` epochs: Zhu and Gupta 2017, eq. 1, from nothing."""
    progress = (epoch / epochs - start) / (end - start)
    return final * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)


def _gradual(
    args: Args, split: DataSplits, sparsity: float, seed: int, device: torch.device, checkpoint: Path
) -> Posterior:
    net = fresh_net(NETWORKS[args.network], split, seed, device)
    like = mnist_compress.Args(network=args.network)
    dropout = mnist_compress.protocol_of(like, split.origin).dropout  # as the rows that it is held against
    pretrain(net, split.train, args.pretrain, args.batch_size, args.lr, seed, dropout, checkpoint)
    pair = masked_pair(net, split)

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
    net = fresh_net(NETWORKS[args.network], split, seed, device)
    epochs, left = divmod(args.epochs + args.pretrain, args.rounds)
    kept = (1 - sparsity) ** (1 / (args.rounds - 1))  # of the weights left, after each round but the last
    pair, history = masked_pair(net, split), []
    for number in range(args.rounds):
        if number:
            masks = top_k_masks(_magnitudes(pair), 1 - kept**number)
            pair = masked_pair(net, split, masks)  # from the initial weights
        run = checkpoint.with_name(f"{checkpoint.name}-round{number}")
        last = number == args.rounds - 1  # it has what does not divide
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
        lr_schedule=hold_then_decay(min(round(args.hold * epochs), epochs - 1), epochs),
        engine=args.engine,  # type: ignore[arg-type]
        seed=seed,
        checkpoint=run,
        on_epoch=on_epoch,
    )


def _numbers(args: Args, posterior: Posterior, split: DataSplits, path: Path) -> Record:
    net = posterior.mean()
    counted = compression_report(net, posterior.model.priors)
    error = error_rate(logits_of(net, split.test), split.test.labels)
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
        **if_it_can_be_shipped(lambda: shipped(posterior, small_one(net, split), split, 0.0, fresh, file)),
        **course_of(posterior.history),
    }


def _weights(network: str) -> int:
    return sum(parameter.numel() for parameter in NETWORKS[network]().parameters() if parameter.ndim > 1)


def described(args: Args, method: str, sparsity: float, seed: int) -> Record:
    """What a record says of the run itself, whatever the data."""
    tuned = {name: getattr(args, name) for name in (*OF_METHOD[method], *OF_BOTH)}
    changed = [f"{name}={value}" for name, value in tuned.items() if value != DEFAULTS[name]]
    return {
        "experiment": EXPERIMENT,
        "protocol": ", ".join([f"{args.pretrain} + {args.epochs} epochs", *changed]),
        "scheme": f"{method}, {share(sparsity)}",
        "prior": guides.prior_name(guides.none),
        "seed": seed,
        "threshold": None,
        "mc_samples": 1,
        **{name: getattr(args, name) for name in ("network", "epochs", "pretrain")},
        **tuned,
    }


def _check(args: Args) -> None:
    cli.nearest("network", args.network, NETWORKS)
    if not args.method or not args.sparsity:
        raise UserError("--method and --sparsity need a value at least")
    for method in args.method:
        cli.nearest("method", method, METHODS)
    if not all(0 < sparsity < 1 for sparsity in args.sparsity):
        raise UserError("--sparsity has to lie between 0 and 1: the share of weights that go")
    weights = _weights(args.network)
    if round(max(args.sparsity) * weights) == weights:
        raise UserError(f"--sparsity {max(args.sparsity)} leaves none of {weights:,} weights")
    if not 0 <= args.start < args.end <= 1 or not 0 <= args.hold <= 1:
        raise UserError("--start has to be below --end, and both, and --hold, from 0 to 1: shares of the epochs")
    if "lottery" in args.method and not 2 <= args.rounds <= args.epochs + args.pretrain:
        raise UserError("--rounds has to be at least 2, and --epochs and --pretrain together at least --rounds")
    if min(args.seeds, args.batch_size, args.epochs) < 1 or min(args.validation, args.pretrain) < 0:
        raise UserError(
            "--seeds, --batch-size and --epochs have to be at least 1, --validation and --pretrain at least 0"
        )
    if not 0 < args.lr < float("inf"):
        raise UserError("--lr has to be above 0 and finite")


if __name__ == "__main__":
    cli.run(Args, main)
