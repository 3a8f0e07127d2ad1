"""Compression of LeNet-300-100 and LeNet-5 by sparse and hierarchical variational dropout.

``python -m experiments.mnist_compress`` trains none, sparse and hierarchical on MNIST (or, offline, on scikit-learn's
digits by a short protocol), prunes by the posterior's log_alpha, fine-tunes if the protocol says so, and prints error
and compression beside the published numbers. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pyro_vd.experiments.common import cli, compression
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import Protocol
from pyro_vd.experiments.common.spec import Data

STUDY = "mnist_compress"
# Molchanov et al. 2017, published scripts: 5 epochs without the KL, 15 of warm-up.
MOLCHANOV = Protocol(name="molchanov2017", epochs=200, wait=0.025, ramp=0.075, dropout=(0.2, 0.3))
AUGMENTED = Protocol(
    name="augmented", epochs=80, ramp=0.125, kl_weight=1.5, noise_lr=0.3, pretrain=20, dropout=(0.15, 0.3), shift=1
)
FINE_TUNED = replace(AUGMENTED, name="fine-tuned", kl_weight=1.25, fine_tune=40)
# 1,437 images: the KL of 266,200 weights starts at 250 nats per example, and a short warm-up leaves nothing.
DIGITS = Protocol(name="digits", epochs=100, wait=0.1, ramp=0.5, dropout=(0.2, 0.3))
PROTOCOLS = {protocol.name: protocol for protocol in (MOLCHANOV, AUGMENTED, FINE_TUNED, DIGITS)}
NETWORK_PROTOCOLS = {"lenet300": MOLCHANOV, "lenet5": FINE_TUNED}  # on any dataset except digits


@dataclass(frozen=True, kw_only=True)
class Args(compression.Args):
    """Trains, prunes, and prints the compression table."""

    dataset: str = "auto"
    """mnist, fashion_mnist, digits, an image folder, or auto: MNIST if it can be loaded, else digits."""
    network: Literal["lenet300", "lenet5"] = "lenet300"
    """The network."""
    protocol: Literal["molchanov2017", "augmented", "fine-tuned", "digits"] | None = None
    """By default digits on digits, else fine-tuned for lenet5 and molchanov2017 for lenet300."""
    scheme: tuple[str, ...] = ("none", "sparse", "hierarchical")
    shift: int | None = None
    """Largest random shift of training images in pixels; by default the protocol's."""
    out: Path = Path("runs/mnist_compress")
    """Folder of records, checkpoints, table and pictures."""


def main(args: Args) -> None:
    compression.check(args)
    device = cli.begin(args)
    dataset = choose_dataset(args.dataset, args.data)
    protocol = choose_protocol(args, dataset)
    data = Data(name=dataset, validation=args.validation)
    runner = compression.make_runner(
        args, STUDY, device, lambda spec: compression.describe(STUDY, protocol, spec.method, args.changes)
    )
    runner.run_all(compression.make_specs(args, protocol, data, args.network))
    compression.show_results(runner.store)


def choose_protocol(args: Args, dataset: str) -> Protocol:
    """The protocol that was given, or the default one for the network and the data."""
    if args.protocol is not None:
        return PROTOCOLS[args.protocol]
    return DIGITS if dataset == "digits" else NETWORK_PROTOCOLS[args.network]


if __name__ == "__main__":
    cli.run(Args, main)
