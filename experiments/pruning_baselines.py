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

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyro_vd import Training
from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.spec import Data, Dense, Gradual, Lottery, Phase, Spec
from pyro_vd.inference.schedules import HoldThenDecay
from pyro_vd.models import NETWORKS

STUDY = "pruning_baselines"
Method = Literal["magnitude", "lottery"]


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains and prunes by the baselines, and prints their tables."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it can be loaded, else digits."""
    network: Literal["lenet300", "lenet5"] = "lenet300"
    """The network."""
    method: tuple[Method, ...] = ("magnitude", "lottery")
    """One or both."""
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
SHARED_ARGUMENTS = ("batch_size", "lr", "hold", "shift")


def main(args: Args) -> None:
    _check(args)
    device = cli.begin(args)
    dataset = choose_dataset(args.dataset, args.data)
    runner = compression.make_runner(args, STUDY, device, lambda spec: describe(args, spec.method))
    runner.run_all(
        [
            make_spec(args, dataset, method, sparsity, seed)
            for seed in range(args.seeds)
            for method in args.method
            for sparsity in args.sparsity
        ]
    )
    compression.show_results(runner.store)


def describe(args: Args, method: str) -> dict[str, Any]:
    """The notes of a record: what differs from the default arguments."""
    given = {name: getattr(args, name) for name in (*METHOD_ARGUMENTS[method], *SHARED_ARGUMENTS)}
    changes = {name: value for name, value in given.items() if value != getattr(Args, name)}
    return {"experiment": STUDY, "changes": changes}


def make_spec(args: Args, dataset: str, method: str, sparsity: float, seed: int = 0) -> Spec:
    """The spec of one method at one sparsity."""
    phases = {"magnitude": _make_gradual, "lottery": _make_lottery}[method](args, dataset, sparsity)
    data = Data(name=dataset, validation=args.validation, shift=args.shift)
    return Spec(network=args.network, data=data, phases=phases, seed=seed)


def _make_gradual(args: Args, dataset: str, sparsity: float) -> tuple[Phase, ...]:
    gradual = Gradual(sparsity=sparsity, training=_train(args, args.epochs), start=args.start, end=args.end)
    if not args.pretrain:
        return (gradual,)
    like = mnist_compress.Args(network=args.network)
    dropout = mnist_compress.choose_protocol(like, dataset).dropout  # as in the rows that it is compared with
    return (Dense(training=_train(args, args.pretrain, hold=0.0), dropout=dropout), gradual)


def _make_lottery(args: Args, dataset: str, sparsity: float) -> tuple[Phase, ...]:
    epochs, extra = divmod(args.epochs + args.pretrain, args.rounds)
    training = _train(args, epochs)
    return (Lottery(sparsity=sparsity, training=training, rounds=args.rounds, extra=extra, hold=args.hold),)


def _train(args: Args, epochs: int, hold: float | None = None) -> Training:
    held = min(round((args.hold if hold is None else hold) * epochs), epochs - 1)
    decay = HoldThenDecay(held, epochs)
    return Training(epochs=epochs, batch_size=args.batch_size, lr=args.lr, lr_schedule=decay)


def _check(args: Args) -> None:
    if not args.method or not args.sparsity:
        raise UserError("--method and --sparsity need at least one value")
    if not all(0 < sparsity < 1 for sparsity in args.sparsity):
        raise UserError("--sparsity must lie between 0 and 1: the share of pruned weights")
    weights = sum(parameter.numel() for parameter in NETWORKS[args.network]().parameters() if parameter.ndim > 1)
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
