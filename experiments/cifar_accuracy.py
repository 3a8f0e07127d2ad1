"""Accuracy of every dropout scheme on CIFAR-10.

``python -m experiments.cifar_accuracy`` runs a short protocol for a CPU: 5,000 images at 16x16 and a small network of
half widths. ``python -m experiments.cifar_reference`` repeats the tables of the reference repository, and ``python -m
experiments.resnet9`` trains a network whose accuracy is closer to the state of the art. Every run writes one JSON
record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Options, Spec
from pyro_vd.models import CifarCNN

STUDY = "cifar_accuracy"
# 5,000 images: the KL of 47,000 weights starts at 20 nats per example, so the warm-up takes the whole run.
SHORT = Protocol(name="short", epochs=10, hold=1.0, ramp=1.0)
OPTIONS = Options(scale=0.5, size=16)
NUM_TRAIN, NUM_TEST = 5_000, 2_000
RATE = 0.5


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme and prints the accuracy table."""

    out: Path = Path("runs/cifar_accuracy")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    dataset = choose_dataset(args.dataset, args.data, "cifar10")
    protocol = accuracy.set_epochs(SHORT, args)
    columns = make_columns(dataset, protocol, args.validation, args.num_samples)
    store = accuracy.run_columns(args, STUDY, columns, device)
    publish(accuracy_tables(columns, store, protocol.name), args.out)


def make_columns(
    dataset: str, protocol: Protocol = SHORT, validation: int = 0, num_samples: int = Args.num_samples
) -> Columns:
    """Every row."""
    data = Data(name=dataset, validation=validation, num_train=NUM_TRAIN, num_test=NUM_TEST)
    make = partial(Spec, network="cifar_cnn", options=OPTIONS, data=data, num_samples=num_samples)
    rows = make_rows(CifarCNN(**OPTIONS.plain()))
    specs = {name: make(phases=(accuracy_fit(protocol, **row),)) for name, row in rows.items()}
    return {f"widths x {OPTIONS['scale']:g}": specs}


def make_rows(net: nn.Module) -> dict[str, dict[str, Any]]:
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
    return {
        "none": {"scheme": "none"},
        "Bernoulli": {"scheme": "bernoulli", "select": linear, "options": {"p": RATE}},
        "Gaussian S": {"scheme": "gaussian_srivastava", "select": linear, "options": {"p": RATE}},
        "Gaussian W": {"scheme": "gaussian_wang", "select": linear, "options": {"p": RATE}},
        "variational A, before fc": {"scheme": "variational_a", "select": linear},
        "variational A, after conv": {"scheme": "variational_a", "select": tuple(behind_conv), "options": after_conv},
        "variational B, per weight": {"scheme": "variational_b"},
        "variational B, per weight, on W": {"scheme": "variational_b", "estimator": "weights"},
        "variational B, per unit": {"scheme": "variational_b", "options": {"share": "unit"}},
        "hierarchical A, before fc": {"scheme": "hierarchical_a", "select": linear},
        "hierarchical A, after conv": {"scheme": "hierarchical_a", "select": tuple(behind_conv), "options": after_conv},
        "hierarchical B, per weight": {"scheme": "hierarchical"},
        "hierarchical B, per weight, on W": {"scheme": "hierarchical", "estimator": "weights"},
        "hierarchical B, per weight, log_alpha": {
            "scheme": "hierarchical",
            "options": {"parametrization": "log_alpha"},
        },
        "hierarchical B, per unit": {"scheme": "hierarchical", "options": per_unit},
        "hierarchical B, naive formulas": {"scheme": "hierarchical_naive"},
        "sparse B, per weight": {"scheme": "sparse"},
        "sparse B, per weight, on W": {"scheme": "sparse", "estimator": "weights"},
        "sparse B, per unit": {"scheme": "sparse", "options": per_unit},
    }


if __name__ == "__main__":
    cli.run(Args, main)
