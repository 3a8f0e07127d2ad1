"""Error against hidden units on MNIST for dropout with fixed and learned rates: figure 1 of Kingma et al. 2015.

``python -m experiments.mnist_accuracy`` trains fully connected networks with three equal hidden layers, by default of
100 and 250 units, which suits a CPU. Every run writes one JSON record; an interrupted run resumes.
``python -m experiments.gradient_variance`` computes that paper's table for the same networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.accuracy_pictures import draw_errors
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.published import KINGMA, errors_by_width
from pyro_vd.experiments.common.spec import Data, Options, Spec

STUDY = "mnist_accuracy"
PROTOCOL = Protocol(name="kingma2015", epochs=60, batch_size=500, lr=2e-3)
LAYERS = 3
INPUT_RATE, HIDDEN_RATE = 0.2, 0.5
RATES = {"p": {"fc1.weight": INPUT_RATE, **{f"fc{i}.weight": HIDDEN_RATE for i in range(2, LAYERS + 2)}}}
ROWS: dict[str, dict[str, Any]] = {
    "none": {"scheme": "none"},
    "binary": {"scheme": "bernoulli", "options": RATES},
    "Gaussian A": {"scheme": "gaussian_srivastava", "options": RATES},
    "variational A": {"scheme": "variational_a"},
    "variational A2": {"scheme": "variational_a", "kl_weight": 1 / 3},
    "Gaussian B": {"scheme": "gaussian_wang", "options": RATES},
    "variational B": {"scheme": "variational_b"},
}


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme at every width and prints the table of errors."""

    hidden: tuple[int, ...] = (100, 250)
    """Units of each of the three hidden layers."""
    out: Path = Path("runs/mnist_accuracy")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    if not args.hidden or min(args.hidden) < 1:
        raise UserError("--hidden must be at least 1")
    data = Data(name=choose_dataset(args.dataset, args.data), validation=args.validation)
    protocol = accuracy.set_epochs(PROTOCOL, args)
    columns = make_columns(data, args.hidden, protocol, args.num_samples)
    store = accuracy.run_columns(args, STUDY, columns, device)
    published = find_published if (data, protocol) == (Data(name="mnist"), PROTOCOL) else None
    draw_errors(columns, store, args.out / "errors.png", published)
    publish(accuracy_tables(columns, store, protocol.name, published), args.out, "errors.png")


def make_columns(
    data: Data, hidden: Sequence[int], protocol: Protocol = PROTOCOL, num_samples: int = Args.num_samples
) -> Columns:
    """Every row at every width."""
    fits = {name: accuracy_fit(protocol, **row) for name, row in ROWS.items()}
    make = partial(Spec, network="mlp", data=data, num_samples=num_samples)
    return {
        f"{units} units": {
            name: make(options=Options(hidden=(units,) * LAYERS), phases=(fit,)) for name, fit in fits.items()
        }
        for units in hidden
    }


def find_published(column: str) -> dict[str, float]:
    """Row -> error in figure 1 of the paper at this width, a fraction."""
    units = float(column.split()[0])
    return {row: errors[units] for row, errors in errors_by_width(KINGMA, "mlp").items() if units in errors}


if __name__ == "__main__":
    cli.run(Args, main)
