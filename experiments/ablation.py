"""Ablation of sparse variational dropout's compression: one factor of mnist_compress changed at a time.

``python -m experiments.ablation`` trains LeNet-300-100 on MNIST with the defaults of mnist_compress after 10 epochs of
dense training, again with each factor changed, and prints error and compression. ``--network lenet5 --epochs 30`` does
the same for LeNet-5, without fine-tuning unless that is the factor. An interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyro_vd.errors import UserError
from pyro_vd.experiments import mnist_compress
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.compression import one_run
from pyro_vd.experiments.common.records import Record, mismatches, read_records
from pyro_vd.experiments.common.tables import count_runs, publish, ratio, summary, to_markdown
from pyro_vd.experiments.common.training import MNIST_NETWORKS, load_data
from pyro_vd.models import NETWORKS

EXPERIMENT = "ablation"
BASE_CHANGES: dict[str, Any] = {"scheme": ("sparse",), "pretrain": 10, "fine_tune": 0, "num_samples": 1}
FACTORS: dict[str, dict[str, Any]] = {
    "all as they are": {},
    "no train-time masking": {"train_masking": False},
    "log_sigma2 starts at -5": {"init": -5.0},
    "log_sigma2 starts at -8": {"init": -8.0},
    "learning rate falls from the start": {"hold": 0.0},
    "learning rate held for half of the run": {"hold": 0.5},
    "learning rate held for 9/10": {"hold": 0.9},
    "KL warm-up of one epoch": {"wait": 0, "ramp": 1},
    "KL warm-up over half of the run": {"wait": 0, "ramp": 0.5},
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
class Args(cli.Training):
    """Changes one factor of sparse variational dropout at a time."""

    network: str = "lenet300"
    """lenet300 or lenet5."""
    epochs: int = 60
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    dataset: str = "mnist"
    out: Path = Path("runs/ablation")


def main(args: Args) -> None:
    cli.nearest("network", args.network, MNIST_NETWORKS)
    if min(args.epochs, args.seeds) < 1:
        raise UserError("--epochs and --seeds must be at least 1")
    device = cli.begin(args)
    split = load_data(args.dataset, NETWORKS[args.network](), args.data).to(device)
    for seed in range(args.seeds):
        for factor in factors_of(args.network):
            print(factor)
            one_run(mnist_compress.table(with_factor(args, factor), split, device), "sparse", seed)
    table = ablation_table(read_records(args.out))
    publish(table, args.out)


def factors_of(network: str) -> list[str]:
    """The factors whose value is not the network's default already."""
    protocol = mnist_compress.NETWORK_PROTOCOLS[network]
    here = {name: getattr(protocol, name) for name in ("hold", *compression.PROTOCOL_DEFAULTS)} | BASE_CHANGES
    return [
        factor for factor, change in FACTORS.items() if not change or any(here.get(k) != v for k, v in change.items())
    ]


def with_factor(args: Args, factor: str) -> mnist_compress.Args:
    """The arguments of mnist_compress with that factor changed."""
    shared = ("network", "epochs", "dataset", "engine", "device", "data", "out", "resume")
    changes = {**BASE_CHANGES, **{name: getattr(args, name) for name in shared}, **FACTORS[factor]}
    if isinstance(changes.get("ramp"), float):  # a share of the run
        changes["ramp"] = max(1, round(changes["ramp"] * args.epochs))
    protocol = mnist_compress.NETWORK_PROTOCOLS[args.network]
    asked = replace(mnist_compress.Args(), **changes, protocol=protocol.name)
    return asked.settled(protocol).of_scheme("sparse", protocol)


def ablation_table(records: Iterable[Record]) -> str:
    """A table per network and number of epochs: error and compression with each factor changed."""
    records = [record for record in records if record["scheme"] == "sparse"]
    kinds = sorted({(record["network"], record["epochs"], record["dataset"]) for record in records})
    return "\n\n".join(_table(records, *kind) for kind in kinds)


def _table(records: list[Record], network: str, epochs: int, dataset: str) -> str:
    rows = [("factor", "error %", "compression", "n")]
    for factor in factors_of(network):
        args = with_factor(Args(network=network, epochs=epochs), factor)
        wanted = {name: getattr(args, name) for name in args.protocol_fields}
        wanted |= {"network": network, "epochs": epochs, "dataset": dataset}
        found = [record for record in records if not mismatches(record, wanted, args.defaults())]
        good = [record for record in found if not record["diverged"]]
        errors = summary([100 * record["test_error"] for record in good], "{:.2f}")
        if found:
            rows.append((factor, errors, ratio([record["compression"] for record in good]), count_runs(found)))
    return f"{network}, {dataset}, {epochs} epochs:\n\n{to_markdown(rows)}"


if __name__ == "__main__":
    cli.run(Args, main)
