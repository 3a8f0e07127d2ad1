"""One network under every prior: the effect of the prior on error and sparsity.

``python -m experiments.prior_swap`` trains a fully connected network on MNIST with the guide of ``sparse`` under every
prior that it supports, and prints the error, the share of weights that log_alpha would prune, and quantiles of
log_alpha. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyro_vd.experiments.common import accuracy, accuracy_pictures, cli
from pyro_vd.experiments.common.accuracy import Cell, Protocol, Row
from pyro_vd.experiments.common.priors import WEIGHT_PRIORS
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import count_runs, group_by, publish, summary, to_markdown
from pyro_vd.models import MLP

EXPERIMENT = "prior_swap"
PROTOCOL = Protocol("prior swap", epochs=30, batch_size=500, lr=2e-3, hold=0.5, wait=0.1, ramp=0.4)
HIDDEN = (100, 100, 100)
REQUIRED = (*accuracy.REQUIRED, "log_alpha")


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains one network under every prior and prints the differences."""

    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    out: Path = Path("runs/prior_swap")
    """Folder of records, checkpoints, table and picture."""


def main(args: Args) -> None:
    table = accuracy.run_all(args, EXPERIMENT, PROTOCOL, cells())
    records = table.records(REQUIRED)
    text = to_markdown(prior_table(records))
    accuracy_pictures.draw_log_alphas(in_order(records), args.out / "log_alpha.png")
    publish(text, args.out, "log_alpha.png")


def cells() -> list[Cell]:
    """Every prior over weights, with one guide and one network."""
    rows = [Row(name, "sparse", prior=prior) for name, prior in WEIGHT_PRIORS.items()]
    return [Cell(row, "-".join(map(str, HIDDEN)), partial(MLP, hidden=HIDDEN)) for row in rows]


def in_order(records: list[Record]) -> list[Record]:
    """Records in the order of the priors."""
    order = list(WEIGHT_PRIORS)
    return sorted(records, key=lambda record: (order.index(record["row"]), record["seed"]))


def prior_table(records: list[Record]) -> list[tuple[str, ...]]:
    """One row per prior, header first; mean and standard deviation over seeds."""
    rows = group_by(in_order(records), lambda record: record["row"])
    header = ("prior", "error %", "Monte Carlo", "error % pruned", "pruned %", "median log alpha", "n")
    return [header, *(_row(name, group) for name, group in rows.items())]


def _row(name: str, group: list[Record]) -> tuple[str, ...]:
    good = [record for record in group if not record["diverged"]]
    errors = ("test_error", "test_error_mc", "test_error_pruned", "sparsity")
    percents = [summary([100 * record[key] for record in good], "{:.2f}") for key in errors]
    median = summary([record["log_alpha"]["quantiles"]["0.5"] for record in good], "{:.1f}")
    return (f"`{name}`", *percents, median, count_runs(group))


if __name__ == "__main__":
    cli.run(Args, main)
