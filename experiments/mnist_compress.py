"""Compression of LeNet-300-100 and LeNet-5 by sparse and hierarchical variational dropout.

``python -m experiments.mnist_compress`` trains none, sparse and hierarchical on MNIST (or, offline, on scikit-learn's
digits by a short protocol of its own), prunes at the posterior's log_alpha, and prints error and compression beside
the published numbers. Every run leaves one JSON record; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from experiments.common import cli, compression
from experiments.common.compression import Protocol, Table
from experiments.common.training import data_for
from models import NETWORKS
from pyro_vd.data import Split

EXPERIMENT = "mnist_compress"
# Molchanov et al. 2017, published scripts: the rate of LeNet-5 falls from the start.
HEADLINE = Protocol("headline", epochs=200, wait=5, ramp=15, hold=0.5, dropout=(0.2, 0.3), origins=("mnist",))
# 1,437 images: the KL of 266,200 weights is 250 nats per example at the start, and a short warm-up empties the network.
DIGITS = Protocol("digits-short", epochs=100, wait=10, ramp=50, hold=0.5, dropout=(0.2, 0.3), origins=("digits",))
HOLD = {"lenet300": 0.5, "lenet5": 0.0}


@dataclass(frozen=True, kw_only=True)
class Args(compression.Args):
    """Trains, prunes, and prints the compression table."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it is or can be had, else digits."""
    network: str = "lenet300"
    """lenet300 or lenet5."""
    scheme: tuple[str, ...] = ("none", "sparse", "hierarchical")
    """One or more of guides.SCHEMES."""
    out: Path = Path("runs/mnist_compress")
    """Folder of records, checkpoints, table and pictures."""


def main(args: Args) -> None:
    cli.nearest("network", args.network, NETWORKS)
    compression.check(args)
    device = cli.begin(args)
    split = data_for(args.dataset, NETWORKS[args.network](), args.data, validation=args.validation).to(device)
    compression.every_run(table(args, split, device))


def table(args: Args, split: Split, device: torch.device) -> Table:
    """What the runs on these data share."""
    return Table(
        EXPERIMENT, protocol_of(args.network, split), args.network, NETWORKS[args.network], split, device, args
    )


def protocol_of(network: str, split: Split) -> Protocol:
    """The network's protocol on these data."""
    return replace(DIGITS if split.origin == "digits" else HEADLINE, hold=HOLD[network])


if __name__ == "__main__":
    cli.run(Args, main)
