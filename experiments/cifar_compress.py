"""Compression of the VGG on CIFAR-10 by sparse variational dropout.

``python -m experiments.cifar_compress`` runs a short protocol for a CPU: 5,000 images and a quarter of the widths.
``--protocol full --scale 0.25``, 0.5 and 1.0 are the networks of Molchanov et al. 2017, section 5.5, after dense
training with dropout; they need a GPU. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import Protocol
from pyro_vd.experiments.common.spec import Data, Options
from pyro_vd.models.vgg import WIDTHS

STUDY = "cifar_compress"
# Full widths have about 300 weights per image, and the KL starts at 2,000 nats: the warm-up takes half of the run.
FULL = Protocol(name="full", epochs=200, wait=0.025, ramp=0.475, dropout=(0.0, 0.3), pretrain=20)
SHORT = Protocol(name="short", epochs=30, wait=2 / 30, ramp=0.6, dropout=(0.0, 0.3), pretrain=20)
PROTOCOLS = {protocol.name: protocol for protocol in (FULL, SHORT)}
SHORT_TRAIN, SHORT_TEST = 5_000, 2_000
LARGEST_SCALE = 100


@dataclass(frozen=True, kw_only=True)
class Args(compression.Args):
    """Trains, prunes, and prints the compression table."""

    dataset: str = "auto"
    """cifar10, an image folder, another dataset in color at 32x32, or auto: CIFAR-10 if available, else digits."""
    protocol: Literal["short", "full"] = "short"
    """short is for a CPU, full for a GPU."""
    scale: float = 0.25
    """Factor of the network's widths."""
    scheme: tuple[str, ...] = ("none", "sparse")
    augment: bool = False
    """Random crops, flips and cutout during training, which the paper does not use."""
    out: Path = Path("runs/cifar_compress")
    """Folder of records, checkpoints, table and pictures."""


def main(args: Args) -> None:
    compression.check(args)
    if not 1 / WIDTHS[0][0] <= args.scale <= LARGEST_SCALE:
        raise UserError(f"--scale must lie between 1/{WIDTHS[0][0]} and {LARGEST_SCALE}: a factor of the widths")
    device = cli.begin(args)
    protocol = PROTOCOLS[args.protocol]
    data = make_data(choose_dataset(args.dataset, args.data, "cifar10"), protocol, args.augment, args.validation)
    runner = compression.make_runner(
        args, STUDY, device, lambda spec: compression.describe(STUDY, protocol, spec.method, args.changes)
    )
    runner.run_all(compression.make_specs(args, protocol, data, "vgg", Options(scale=args.scale)))
    compression.show_results(runner.store)


def make_data(dataset: str, protocol: Protocol, augment: bool = False, validation: int = 0) -> Data:
    """The images of the protocol."""
    sizes = (SHORT_TRAIN, SHORT_TEST) if protocol.name == "short" else (None, None)
    return Data(name=dataset, validation=validation, num_train=sizes[0], num_test=sizes[1], augment=augment)


if __name__ == "__main__":
    cli.run(Args, main)
