"""Compression of the VGG on CIFAR-10 by sparse variational dropout.

``python -m experiments.cifar_compress`` runs a short protocol for a CPU: 5,000 images and a quarter of the widths.
``--protocol full --scale 0.25``, 0.5 and 1.0 are the networks of Molchanov et al. 2017, section 5.5, after dense
training with dropout; they need a GPU. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from pyro_vd.data import DataSplits
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.compression import Protocol, Table
from pyro_vd.experiments.common.training import check_last_batch, load_data
from pyro_vd.models import VGG
from pyro_vd.models.vgg import WIDTHS

EXPERIMENT = "cifar_compress"
ORIGINS = ("cifar10",)
# Full widths have about 300 weights per image, and the KL starts at 2,000 nats: the warm-up takes half of the run.
FULL = Protocol("full", epochs=200, wait=5, ramp=95, hold=0.5, dropout=(0.0, 0.3), origins=ORIGINS, pretrain=20)
SHORT = Protocol("short", epochs=30, wait=2, ramp=18, hold=0.5, dropout=(0.0, 0.3), origins=ORIGINS, pretrain=20)
PROTOCOLS = {protocol.name: protocol for protocol in (FULL, SHORT)}
SHORT_TRAIN, SHORT_TEST = 5_000, 2_000
LARGEST_SCALE = 100


@dataclass(frozen=True, kw_only=True)
class Args(compression.Args):
    """Trains, prunes, and prints the compression table."""

    dataset: str = "auto"
    """cifar10, an image folder, another dataset in color at 32x32, or auto: CIFAR-10 if available, else digits."""
    protocol: str = "short"
    """short (a CPU) or full (a GPU)."""
    scale: float = 0.25
    """Factor of the network's widths."""
    scheme: tuple[str, ...] = ("none", "sparse")
    """One or more of guides.SCHEMES."""
    augment: bool = False
    """Random crops, flips and cutout during training, which the paper does not use."""
    out: Path = Path("runs/cifar_compress")
    """Folder of records, checkpoints, table and pictures."""

    protocol_fields: ClassVar[tuple[str, ...]] = (*compression.Args.protocol_fields, "augment")


def main(args: Args) -> None:
    cli.nearest("protocol", args.protocol, PROTOCOLS)
    compression.check(args)
    if not 1 / WIDTHS[0][0] <= args.scale <= LARGEST_SCALE:
        raise UserError(f"--scale must lie between 1/{WIDTHS[0][0]} and {LARGEST_SCALE}: a factor of the widths")
    device = cli.begin(args)
    split = prepared(args)
    check_last_batch(VGG(scale=args.scale), split, args.batch_size)
    compression.run_all(table(args, split.to(device), device))


def prepared(args: Args) -> DataSplits:
    """Loads the data for these arguments, on the host."""
    split = load_data(args.dataset, VGG(), args.data, "cifar10", args.validation)
    split = split.subset(SHORT_TRAIN, SHORT_TEST) if PROTOCOLS[args.protocol] is SHORT else split
    return replace(split, train=AugmentedImages(split.train.images, split.train.labels)) if args.augment else split


def table(args: Args, split: DataSplits, device: torch.device) -> Table:
    """What all runs on these data share."""
    make = partial(VGG, scale=args.scale)
    protocol = PROTOCOLS[args.protocol]
    return Table(EXPERIMENT, protocol, network(args.scale), make, split, device, args.settled(protocol))


def network(scale: float) -> str:
    """The network's name in records."""
    return f"vgg x {scale:g}"


if __name__ == "__main__":
    cli.run(Args, main)
