"""Ablation of sparse variational dropout's compression: one factor of mnist_compress changed at a time.

``python -m experiments.ablation`` trains LeNet-300-100 on MNIST with the defaults of mnist_compress after 10 epochs of
dense training, again with each factor changed, and prints error and compression. ``--network lenet5 --epochs 30`` does
the same for LeNet-5, without fine-tuning unless that is the factor. An interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import compression_spec
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent, ratio

STUDY = "ablation"
BASE: dict[str, Any] = {"pretrain": 10, "fine_tune": 0}
FACTORS: dict[str, dict[str, Any]] = {
    "all as they are": {},
    "no train-time masking": {"train_masking": False},
    "log_sigma2 starts at -5": {"init": -5.0},
    "log_sigma2 starts at -8": {"init": -8.0},
    "learning rate falls from the start": {"hold": 0.0},
    "learning rate held for half of the run": {"hold": 0.5},
    "learning rate held for 9/10": {"hold": 0.9},
    "KL warm-up of one epoch": {"wait": 0.0, "ramp": 0.0},
    "KL warm-up over half of the run": {"wait": 0.0, "ramp": 0.5},
    "log_sigma2 at three times the learning rate": {"noise_lr": 3.0},
    "log_sigma2 at the same learning rate": {"noise_lr": 1.0},
    "log_sigma2 at 0.3 times the learning rate": {"noise_lr": 0.3},
    "no pretraining": {"pretrain": 0},
    "training images moved by up to a pixel": {"shift": 1},
    "training images as they are": {"shift": 0},
    "20 epochs of fine-tuning after pruning": {"fine_tune": 20},
    "alpha as the parameter": {"parametrization": "log_alpha"},
}


@dataclass(frozen=True)
class Args(cli.Setup):
    """Changes one factor of sparse variational dropout at a time."""

    network: Literal["lenet300", "lenet5"] = "lenet300"
    """The network."""
    epochs: int = 60
    """Passes over the training set after the dense training."""
    dataset: str = "mnist"
    out: Path = Path("runs/ablation")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    device = cli.begin(args)
    cli.check_counts(args, "epochs")
    specs = make_specs(choose_dataset(args.dataset, args.data), args.network, args.epochs)
    protocol = mnist_compress.NETWORK_PROTOCOLS[args.network]
    changes = {spec: {"epochs": args.epochs, **BASE, **FACTORS[factor]} for factor, spec in specs.items()}
    runner = compression.make_runner(
        args, STUDY, device, lambda spec: compression.describe(STUDY, protocol, "sparse", changes[spec])
    )
    runner.run_all(list(specs.values()))
    publish([make_table(specs, Store(args.out), args.network, args.epochs)], args.out)


def make_specs(dataset: str, network: str, epochs: int) -> dict[str, Spec]:
    """Factor -> spec, without the factors whose value is the network's default already."""
    protocol, data = mnist_compress.NETWORK_PROTOCOLS[network], Data(name=dataset)
    base = {"epochs": epochs, **BASE}
    specs = {
        factor: compression_spec(protocol, "sparse", data, network, changes=base | changes, num_samples=1)
        for factor, changes in FACTORS.items()
    }
    usual = specs["all as they are"]
    return {factor: spec for factor, spec in specs.items() if spec != usual or not FACTORS[factor]}


def make_table(specs: dict[str, Spec], store: Store, network: str, epochs: int) -> Table:
    """Error and compression with each factor changed."""
    rows = []
    for factor, spec in specs.items():
        runs = store.seeds(spec)
        good = [run for run in runs if not run.diverged]
        errors, ratios = percent([run["test_error"] for run in good]), ratio([run["compression"] for run in good])
        rows += [(factor, errors, ratios, count_runs(runs))] if runs else []
    data = next(iter(specs.values())).data.name
    return Table(f"{network}, {data}, {epochs} epochs", ("factor", "error %", "compression", "n"), tuple(rows))


if __name__ == "__main__":
    cli.run(Args, main)
