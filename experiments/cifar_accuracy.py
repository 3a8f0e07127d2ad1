"""Accuracy of every dropout scheme on CIFAR-10 with a small convolutional network.

``python -m experiments.cifar_accuracy`` runs a short protocol for a CPU: 5,000 images at 16x16, half widths. With
``--protocol full`` it is that of the reference repository's two tables: 50,000 images, batch 1000, Adam at 1e-3,
100 epochs, ``--scale`` 1.0, 1.5 and 2.0. Every run leaves one JSON record; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.common import accuracy, cli
from experiments.common.accuracy import Cell, Protocol, Row, Table
from experiments.common.accuracy_tables import report
from experiments.common.training import data_for
from models import cifar_cnn
from pyro_vd.data import Split

EXPERIMENT = "cifar_accuracy"
FULL = Protocol("full", epochs=100, batch_size=1000, lr=1e-3, hold=1.0, wait=0.025, ramp=0.075)
# 5,000 images: the KL of 47,000 weights is 20 nats per example at the start; the warm-up takes the whole run.
SHORT = Protocol("short", epochs=10, batch_size=100, lr=1e-3, hold=1.0, wait=0.0, ramp=1.0)
PROTOCOLS = {protocol.name: protocol for protocol in (FULL, SHORT)}
SHORT_TRAIN, SHORT_TEST, SHORT_SIZE, SHORT_SCALE = 5_000, 2_000, 16, 0.5
SIZE = 32

HIDDEN = ("fc1.weight", "fc2.weight")
BEHIND_CONV = ("conv2.weight", *HIDDEN)
RATE = 0.5


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme and prints the accuracy table."""

    protocol: str = "short"
    """short (a CPU, 15 minutes on two cores) or full (a GPU)."""
    scale: float = 1.0
    """Factor of the network's widths 32, 64 and 128 in the full protocol; the short one has half widths."""
    out: Path = Path("runs/cifar_accuracy")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    protocol = PROTOCOLS[cli.nearest("protocol", args.protocol, PROTOCOLS)]
    todo = accuracy.chosen(cells(protocol, args.scale), args.row)
    table = Table(EXPERIMENT, protocol, prepared(protocol, args).to(device), device, args)
    for seed in range(args.seeds):
        for cell in todo:
            accuracy.one_run(table, cell, seed)
    report(args.out)


def prepared(protocol: Protocol, args: accuracy.Args) -> Split:
    """The dataset as the protocol wants it."""
    short = protocol is SHORT
    split = data_for(args.dataset, cifar_cnn(size=SHORT_SIZE if short else SIZE), args.data, preferred="cifar10")
    split = split.with_validation(args.validation) if args.validation else split
    return split.limited(SHORT_TRAIN, SHORT_TEST) if short else split


def cells(protocol: Protocol, scale: float = 1.0) -> list[Cell]:
    """Version 1 has an alpha per weight, version 2 one per input unit or channel; fixed rates are in version 1 only."""
    short = protocol is SHORT
    scale = SHORT_SCALE if short else scale
    make = partial(cifar_cnn, scale=scale, size=SHORT_SIZE if short else SIZE)
    versions = {"alpha per weight": version_1(), "alpha per unit": version_2(make().conv2.out_channels)}
    return [Cell(row, f"{version}, widths x {scale:g}", make) for version, rows in versions.items() for row in rows]


def version_1() -> list[Row]:
    """Noise fused in the layer; what has fixed rates or type A noise drops the inputs of the linear layers only."""
    return [
        Row("none", "none"),
        Row("bernoulli", "bernoulli", HIDDEN, {"p": RATE}),
        Row("gaussian S", "gaussian_srivastava", HIDDEN, {"p": RATE}),
        Row("gaussian W", "gaussian_wang", HIDDEN, {"p": RATE}),
        Row("variational B", "variational_b"),
        Row("variational B, on W", "variational_b", local=False),
        Row("hierarchical B", "hierarchical"),
        Row("hierarchical B, on W", "hierarchical", local=False),
        Row("hierarchical B, log_alpha", "hierarchical", options={"parametrisation": "log_alpha"}),
        Row("sparse B", "sparse"),
        Row("hierarchical B, naive formulas", "hierarchical_naive"),
    ]


def version_2(maps: int) -> list[Row]:
    """alpha per input unit or channel; after conv, the ``maps`` channels before the flattening have the noise."""
    channels = {"channels": {"fc1.weight": maps}}
    per_unit = {"parametrisation": "log_alpha", "share": "unit"}
    return [
        Row("variational A, before fc", "variational_a", HIDDEN),
        Row("variational A, after conv", "variational_a", BEHIND_CONV, channels),
        Row("variational B", "variational_b", options={"share": "unit"}),
        Row("hierarchical A, before fc", "hierarchical_a", HIDDEN),
        Row("hierarchical A, after conv", "hierarchical_a", BEHIND_CONV, channels),
        Row("hierarchical B", "hierarchical", options=per_unit),
        Row("sparse B", "sparse", options=per_unit),
    ]


if __name__ == "__main__":
    cli.run(Args, main)
