"""Accuracy of every dropout scheme on CIFAR-10.

``python -m experiments.cifar_accuracy`` runs a short protocol for a CPU: 5,000 images at 16x16 and a small network of
half widths. ``--protocol full`` is the protocol of the reference repository's two tables: 50,000 images, batch size
1000, Adam at 1e-3, 100 epochs, ``--scale`` 1.0, 1.5 and 2.0. ``--protocol resnet9`` has the same rows on a residual
network with augmentation, whose accuracy is closer to the state of the art. Every run writes one JSON record; an
interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn

from pyro_vd.data import DataSplits
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Cell, Protocol, Row, Table
from pyro_vd.experiments.common.accuracy_tables import report
from pyro_vd.experiments.common.training import load_data
from pyro_vd.models import CifarCNN, ResNet9

EXPERIMENT = "cifar_accuracy"
FULL = Protocol("full", epochs=100, batch_size=1000, lr=1e-3, hold=1.0, wait=0.025, ramp=0.075)
# 5,000 images: the KL of 47,000 weights starts at 20 nats per example, so the warm-up takes the whole run.
SHORT = Protocol("short", epochs=10, batch_size=100, lr=1e-3, hold=1.0, wait=0.0, ramp=1.0)
RESNET = Protocol("resnet9", epochs=40, batch_size=500, lr=1e-3, hold=0.5, wait=0.025, ramp=0.25)
PROTOCOLS = {protocol.name: protocol for protocol in (FULL, SHORT, RESNET)}
SHORT_TRAIN, SHORT_TEST, SHORT_SIZE, SHORT_SCALE = 5_000, 2_000, 16, 0.5
SMALLEST_SCALE, LARGEST_SCALE = 1 / 32, 100
RATE = 0.5


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme and prints the accuracy table."""

    protocol: str = "short"
    """short (a CPU), full or resnet9 (a GPU)."""
    scale: float = 1.0
    """Factor of the network's widths; the short protocol has half widths."""
    out: Path = Path("runs/cifar_accuracy")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    protocol = PROTOCOLS[cli.nearest("protocol", args.protocol, PROTOCOLS)]
    if protocol is SHORT and args.scale != Args.scale:
        raise UserError("--scale applies to the other protocols; the short one has half widths")
    if not SMALLEST_SCALE <= args.scale <= LARGEST_SCALE:
        raise UserError(f"--scale must lie between {SMALLEST_SCALE} and {LARGEST_SCALE}: a factor of the widths")
    todo = accuracy.select_cells(cells(protocol, args.scale), args.row)
    table = Table(EXPERIMENT, protocol, prepared(protocol, args).to(device), device, args)
    for seed in range(args.seeds):
        for cell in todo:
            accuracy.one_run(table, cell, seed)
    report(args.out, todo)


def prepared(protocol: Protocol, args: accuracy.Args) -> DataSplits:
    """Loads the dataset in the form that the protocol uses."""
    split = load_data(args.dataset, network(protocol)(), args.data, "cifar10", args.validation)
    if protocol is RESNET:
        return replace(split, train=AugmentedImages(split.train.images, split.train.labels))
    return split.subset(SHORT_TRAIN, SHORT_TEST) if protocol is SHORT else split


def network(protocol: Protocol, scale: float = 1.0) -> Callable[..., nn.Module]:
    """The constructor of the protocol's network, which takes the number of classes."""
    if protocol is SHORT:
        return partial(CifarCNN, scale=SHORT_SCALE, size=SHORT_SIZE)
    return partial(ResNet9 if protocol is RESNET else CifarCNN, scale=scale)


def cells(protocol: Protocol, scale: float = 1.0) -> list[Cell]:
    """Every row on the protocol's network."""
    make = network(protocol, scale)
    column = f"widths x {make.keywords['scale']:g}"  # type: ignore[attr-defined]
    return [Cell(row, column, make) for row in rows(make())]


def rows(net: nn.Module) -> list[Row]:
    """The table's rows on a network of convolutions followed by linear layers.

    Version 1 of the reference has an alpha per weight, with the noise in the layer. Version 2 has an alpha per input
    unit or channel, with a separate dropout layer. Type A noise, one variable per unit, exists in version 2 only; fixed
    rates are the same in both. "Before fc" is noise on the inputs of the linear layers. "After conv" is noise on the
    output channels of each convolution, before the flattening, and on the inputs of the later linear layers.
    """
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    _, *behind_conv = (f"{name}.weight" for name in layers)
    linear = tuple(f"{name}.weight" for name, layer in layers.items() if isinstance(layer, nn.Linear))
    *_, last_conv = (layer for layer in layers.values() if isinstance(layer, nn.Conv2d))
    after_conv = {"channels": {linear[0]: last_conv.out_channels}}
    per_unit = {"parametrization": "log_alpha", "share": "unit"}
    return [
        Row("none", "none"),
        Row("Bernoulli", "bernoulli", linear, {"p": RATE}),
        Row("Gaussian S", "gaussian_srivastava", linear, {"p": RATE}),
        Row("Gaussian W", "gaussian_wang", linear, {"p": RATE}),
        Row("variational A, before fc", "variational_a", linear),
        Row("variational A, after conv", "variational_a", tuple(behind_conv), after_conv),
        Row("variational B, per weight", "variational_b"),
        Row("variational B, per weight, on W", "variational_b", local=False),
        Row("variational B, per unit", "variational_b", options={"share": "unit"}),
        Row("hierarchical A, before fc", "hierarchical_a", linear),
        Row("hierarchical A, after conv", "hierarchical_a", tuple(behind_conv), after_conv),
        Row("hierarchical B, per weight", "hierarchical"),
        Row("hierarchical B, per weight, on W", "hierarchical", local=False),
        Row("hierarchical B, per weight, log_alpha", "hierarchical", options={"parametrization": "log_alpha"}),
        Row("hierarchical B, per unit", "hierarchical", options=per_unit),
        Row("hierarchical B, naive formulas", "hierarchical_naive"),
        Row("sparse B, per weight", "sparse"),
        Row("sparse B, per unit", "sparse", options=per_unit),
    ]


if __name__ == "__main__":
    cli.run(Args, main)
