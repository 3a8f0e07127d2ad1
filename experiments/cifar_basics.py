"""What a first course on CIFAR-10 varies, one thing at a time: norm, dropout, loss, optimizer, activation, sizes.

``python -m experiments.cifar_basics`` trains the network of ``pyro_vd.models.CifarBasic``, two convolutions of 5x5 and
one hidden layer, for 10 epochs: as it is, and with one change in every row. The loss of the row ``NLL of log-softmax``
is the same function as that of the base. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyro_vd import optim
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.cifar_basics_tables import draw_rows, make_loss_table, make_table
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Options, Spec

STUDY = "cifar_basics"
PROTOCOL = Protocol(name="basics", epochs=10, batch_size=128, hold=1.0)
BASE = "base"
FC = ("fc1.weight", "fc2.weight")  # dropout on the inputs of the linear layers
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "network": {BASE: {}},
    "regularization": {
        "batch norm": {"batch_norm": True},
        "dropout 0.3": {"p": 0.3},
        "dropout 0.5": {"p": 0.5},
        "batch norm, dropout 0.3": {"batch_norm": True, "p": 0.3},
        "batch norm, dropout 0.5": {"batch_norm": True, "p": 0.5},
    },
    "loss": {"NLL of log-softmax": {"log_softmax": True}},
    "optimizer": {
        "SGD, 0.01": {"lr": 0.01, "optimizer": optim.SGD()},
        "SGD, 0.1": {"lr": 0.1, "optimizer": optim.SGD()},
        "SGD, 0.01, momentum 0.9": {"lr": 0.01, "optimizer": optim.SGD(momentum=0.9)},
        "AdamW, decay 0.01": {"optimizer": optim.AdamW(weight_decay=1e-2)},
    },
    "activation": {
        "leaky ReLU": {"activation": "leaky_relu"},
        "ELU": {"activation": "elu"},
        "tanh": {"activation": "tanh"},
        "sigmoid": {"activation": "sigmoid"},
    },
    "kernel": {"3x3": {"kernel": 3}, "7x7": {"kernel": 7}},
    "hidden units": {"30": {"hidden": 30}, "480": {"hidden": 480}},
}
"""Group -> row -> what the row changes: the dropout rate ``p``, the training, or options of the network."""
TRAINING = ("lr", "optimizer")


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains the base and every row with one change, and prints the tables."""

    out: Path = Path("runs/cifar_basics")
    """Folder of records, checkpoints, tables and picture."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    data = Data(name=choose_dataset(args.dataset, args.data, "cifar10"), validation=args.validation)
    columns = make_columns(data, accuracy.set_epochs(PROTOCOL, args), args.num_samples)
    store = accuracy.run_columns(args, STUDY, columns, device)
    draw_rows(columns, store, args.out / "rows.png")
    publish([make_table(columns, store), *make_loss_table(columns, store)], args.out, "rows.png")


def make_columns(data: Data, protocol: Protocol = PROTOCOL, num_samples: int = Args.num_samples) -> Columns:
    """Group -> row -> the run of seed 0."""
    return {
        group: {name: _make_spec(data, protocol, num_samples, changes) for name, changes in rows.items()}
        for group, rows in GROUPS.items()
    }


def _make_spec(data: Data, protocol: Protocol, num_samples: int, changes: Mapping[str, Any]) -> Spec:
    options = {name: value for name, value in changes.items() if name not in ("p", *TRAINING)}
    dropout: dict[str, Any] = {"scheme": "none"}
    if "p" in changes:
        dropout = {"scheme": "bernoulli", "select": FC, "options": {"p": changes["p"]}}
    fit = accuracy_fit(protocol, **dropout)
    training = replace(fit.training, **{name: changes[name] for name in TRAINING if name in changes})
    return Spec(
        network="cifar_basic",
        options=Options(options),
        data=data,
        phases=(replace(fit, training=training),),
        num_samples=num_samples,
    )


if __name__ == "__main__":
    cli.run(Args, main)
