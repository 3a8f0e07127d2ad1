"""Error against hidden units on MNIST for dropout with fixed and learned rates: figure 1 of Kingma et al. 2015.

``python -m experiments.mnist_accuracy`` trains fully connected networks with three equal hidden layers, by default of
100 and 250 units, which suits a CPU. Every run writes one JSON record; an interrupted run resumes.
``python -m experiments.gradient_variance`` computes that paper's table for the same networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Cell, Protocol, Row
from pyro_vd.experiments.common.accuracy_pictures import draw_errors
from pyro_vd.experiments.common.accuracy_tables import report
from pyro_vd.models import MLP

EXPERIMENT = "mnist_accuracy"
PROTOCOL = Protocol("figure", epochs=60, batch_size=500, lr=2e-3, hold=0.5, wait=0.0, ramp=0.0)
LAYERS = 3
INPUT_RATE, HIDDEN_RATE = 0.2, 0.5
RATES = {"p": {"fc1.weight": INPUT_RATE, **{f"fc{i}.weight": HIDDEN_RATE for i in range(2, LAYERS + 2)}}}
ROWS = (
    Row("none", "none"),
    Row("binary", "bernoulli", options=RATES),
    Row("Gaussian A", "gaussian_srivastava", options=RATES),
    Row("variational A", "variational_a"),
    Row("variational A2", "variational_a", kl_weight=1 / 3),
    Row("Gaussian B", "gaussian_wang", options=RATES),
    Row("variational B", "variational_b"),
)


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme at every width and prints the table of errors."""

    hidden: tuple[int, ...] = (100, 250)
    """Units of each of the three hidden layers."""
    out: Path = Path("runs/mnist_accuracy")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    if not args.hidden or min(args.hidden) < 1:
        raise UserError("--hidden must be at least 1")
    asked = cells(args.hidden)
    table = accuracy.run_all(args, EXPERIMENT, PROTOCOL, asked)
    report(args.out, asked)
    draw_errors(table.records(), args.out / "errors.png")


def cells(hidden: tuple[int, ...]) -> list[Cell]:
    """Every row at every width."""
    return [Cell(row, f"{units} units", partial(MLP, hidden=(units,) * LAYERS)) for units in hidden for row in ROWS]


if __name__ == "__main__":
    cli.run(Args, main)
