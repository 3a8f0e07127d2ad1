"""Compression of LeNet-300-100 and LeNet-5 by sparse and hierarchical variational dropout.

``python -m experiments.mnist_compress`` trains none, sparse and hierarchical on MNIST (or, offline, on scikit-learn's
digits by a short protocol), prunes by the posterior's log_alpha, fine-tunes if the protocol says so, and prints error
and compression beside the published numbers. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from pyro_vd.data import DataSplits
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.compression import Protocol, Table
from pyro_vd.experiments.common.training import MNIST_NETWORKS, load_data, with_random_shift
from pyro_vd.models import NETWORKS

EXPERIMENT = "mnist_compress"
# Molchanov et al. 2017, published scripts.
HEADLINE = Protocol("headline", epochs=200, wait=5, ramp=15, hold=0.5, dropout=(0.2, 0.3), origins=("mnist",))
SHIFTED = Protocol(
    "shifted", epochs=80, wait=0, ramp=10, hold=0.5, dropout=(0.15, 0.3), origins=("mnist",), pretrain=20, noise_lr=0.3,
    kl_weight=1.5, shift=1,
)  # fmt: skip
FINE_TUNED = replace(SHIFTED, name="fine-tuned", kl_weight=1.25, fine_tune=40)
# 1,437 images: the KL of 266,200 weights starts at 250 nats per example, and a short warm-up leaves nothing.
DIGITS = Protocol("digits-short", epochs=100, wait=10, ramp=50, hold=0.5, dropout=(0.2, 0.3), origins=("digits",))
PROTOCOLS = {protocol.name: protocol for protocol in (HEADLINE, SHIFTED, FINE_TUNED, DIGITS)}
NETWORK_PROTOCOLS = {"lenet300": HEADLINE, "lenet5": FINE_TUNED}  # network -> its protocol on any dataset except digits


@dataclass(frozen=True, kw_only=True)
class Args(compression.Args):
    """Trains, prunes, and prints the compression table."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it can be loaded, else digits."""
    network: str = "lenet300"
    """lenet300 or lenet5."""
    protocol: str | None = None
    """headline, shifted, fine-tuned or digits-short; by default digits-short on digits, else fine-tuned for lenet5 and
    headline for lenet300."""
    scheme: tuple[str, ...] = ("none", "sparse", "hierarchical")
    """One or more of guides.SCHEMES."""
    shift: int | None = None
    """Largest random shift of training images in pixels; by default the protocol's."""
    out: Path = Path("runs/mnist_compress")
    """Folder of records, checkpoints, table and pictures."""

    protocol_fields: ClassVar[tuple[str, ...]] = (*compression.Args.protocol_fields, "shift")


def main(args: Args) -> None:
    cli.nearest("network", args.network, MNIST_NETWORKS)
    if args.protocol is not None:
        cli.nearest("protocol", args.protocol, PROTOCOLS)
    compression.check(args)
    device = cli.begin(args)
    split = load_data(args.dataset, NETWORKS[args.network](), args.data, validation=args.validation).to(device)
    compression.run_all(table(args, split, device))


def table(args: Args, split: DataSplits, device: torch.device) -> Table:
    """What all runs on these data share."""
    protocol = protocol_of(args, split.origin)
    args = args.settled(protocol)
    moving = with_random_shift(split, args.shift or 0)
    return Table(EXPERIMENT, protocol, args.network, NETWORKS[args.network], moving, device, args)


def protocol_of(args: Args, origin: str) -> Protocol:
    """The protocol that was given, or the default one for the network and the data."""
    if args.protocol is not None:
        return PROTOCOLS[args.protocol]
    return DIGITS if origin == "digits" else NETWORK_PROTOCOLS[args.network]


if __name__ == "__main__":
    cli.run(Args, main)
