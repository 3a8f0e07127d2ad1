"""Exercises on dropout: fixed rates, weight decay and noise on Fashion-MNIST, and schemes that learn the rates.

``python -m experiments.dropout_exercises`` trains a network of two hidden layers of 256 units (SGD at 0.1, batch size
256, 40 epochs). Dropout acts on the hidden layers: 0.2 after the first and 0.5 after the second, which are the inputs
of fc2 and fc3. Each rate is also varied alone. The exercises are those of Dive into Deep Learning, section Dropout.
Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_vd import Training, optim
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.dropout_pictures import draw
from pyro_vd.experiments.common.dropout_tables import make_tables
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.monitors import MONITORS
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Fit, Options, Spec

STUDY = "dropout_exercises"
EPOCHS, BATCH_SIZE, LR, STD, DECAY = 40, 256, 0.1, 0.01, 1e-3
DIGITS_BATCH_SIZE = 8  # with 256, an epoch of digits has 6 steps, too few to leave the start
SITES = ("fc2.weight", "fc3.weight")
FIRST, SECOND = 0.2, 0.5
RATES = tuple(number / 10 for number in range(10))
LEARNED_LR = 10.0  # factor of the learning rate of the noise parameters
DROPOUT: dict[str, Any] = {"scheme": "bernoulli", "p": (FIRST, SECOND)}
ROWS: dict[str, dict[str, Any]] = {
    "neither": {},
    "dropout": DROPOUT,
    "swapped rates": {"scheme": "bernoulli", "p": (SECOND, FIRST)},
    "dropout and decay": {**DROPOUT, "decay": DECAY},
    "decay": {"decay": DECAY},
    "dropout of outputs": DROPOUT,  # relu(m z) = m relu(z) for a mask m >= 0: the same network
    "noise, std 0.01": {"net": {"noise": 0.01}},
    "noise, std 0.1": {"net": {"noise": 0.1}},
    "neither, usual init": {"net": {"std": None}},
    "Gaussian S": {**DROPOUT, "scheme": "gaussian_srivastava"},
    "Gaussian W": {**DROPOUT, "scheme": "gaussian_wang"},
    "Gaussian W, on W": {**DROPOUT, "scheme": "gaussian_wang", "estimator": "weights"},
    "variational A, 0.05": {"scheme": "variational_a", "options": {"share": "layer", "init": -3.0}},
    "variational A, 0.4": {"scheme": "variational_a", "options": {"share": "layer", "init": -0.4}},
    "concrete, 0.05": {"scheme": "concrete", "options": {"init": 0.05}},
    "concrete, 0.4": {"scheme": "concrete", "options": {"init": 0.4}},
    "L0, 0.05": {"scheme": "l0", "options": {"init": 0.05}},
    "L0, 0.4": {"scheme": "l0", "options": {"init": 0.4}},
}


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every row and every rate, and prints the tables."""

    out: Path = Path("runs/dropout_exercises")
    """Folder of records, checkpoints, tables and pictures."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    data = Data(name=choose_dataset(args.dataset, args.data, "fashion_mnist"), validation=args.validation)
    epochs = args.epochs or EPOCHS
    columns = make_columns(data, epochs, args.num_samples)
    store = accuracy.run_columns(args, STUDY, columns, device)
    names = draw(columns, store)
    is_original = (data, epochs) == (Data(name="fashion_mnist"), EPOCHS)
    publish(make_tables(columns, store, is_original), args.out, *names)


def make_columns(data: Data, epochs: int = EPOCHS, num_samples: int = Args.num_samples) -> Columns:
    """The rows, and each rate over 0 to 0.9 while the other one is fixed."""
    first = {f"{rate:g}": {"scheme": "bernoulli", "p": (rate, SECOND)} for rate in RATES}
    second = {f"{rate:g}": {"scheme": "bernoulli", "p": (FIRST, rate)} for rate in RATES}
    columns = {"rows": ROWS, "first rate": first, "second rate": second}
    return {
        name: {row: make_spec(data, epochs, num_samples, **how) for row, how in rows.items()}
        for name, rows in columns.items()
    }


def make_spec(
    data: Data, epochs: int, num_samples: int, *, scheme: str = "none", p: tuple[float, float] | None = None,
    options: Mapping[str, Any] | None = None, net: Mapping[str, Any] | None = None, decay: float = 0.0,
    estimator: str = "local",
) -> Spec:  # fmt: skip
    """The spec of a row.

    Args:
        p: rates after the first and the second hidden layer, of schemes with fixed rates.
        options: of the guide, of schemes that learn the rates.
        net: what the network has other than the others.
        decay: weight decay.
    """
    batch_size = DIGITS_BATCH_SIZE if data.name == "digits" else BATCH_SIZE
    training = Training(epochs=epochs, batch_size=batch_size, lr=LR, optimizer=optim.SGD(weight_decay=decay),
                        estimator=estimator)  # type: ignore[arg-type]  # fmt: skip
    fit = Fit(
        scheme=scheme,
        training=training,
        options=Options({"p": dict(zip(SITES, p, strict=True))} if p else options or {}),
        select=SITES,
        noise_lr=LEARNED_LR if options else 1.0,
        monitors=tuple(MONITORS),
    )
    network = Options({"hidden": (256, 256), "std": STD, **(net or {})})
    return Spec(network="mlp", options=network, data=data, phases=(fit,), num_samples=num_samples)


if __name__ == "__main__":
    cli.run(Args, main)
