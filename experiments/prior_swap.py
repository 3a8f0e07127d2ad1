"""One network under every prior: the effect of the prior on error and sparsity.

``python -m experiments.prior_swap`` trains a fully connected network on MNIST with the guide of ``sparse`` under every
prior that it supports, and prints the error, the share of weights that log_alpha would prune, and quantiles of
log_alpha. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_pictures import draw_log_alphas
from pyro_vd.experiments.common.accuracy_tables import make_title
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.priors import WEIGHT_PRIORS
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Options, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import Table, count_runs, percent, summary

STUDY = "prior_swap"
PROTOCOL = Protocol(name="prior swap", epochs=30, batch_size=500, lr=2e-3, wait=0.1, ramp=0.4)
HIDDEN = (100, 100, 100)
NAME = "-".join(map(str, HIDDEN))


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains one network under every prior and prints the differences."""

    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    out: Path = Path("runs/prior_swap")
    """Folder of records, checkpoints, table and picture."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    data = Data(name=choose_dataset(args.dataset, args.data), validation=args.validation)
    columns = make_columns(data, accuracy.set_epochs(PROTOCOL, args), args.num_samples)
    store = accuracy.run_columns(args, STUDY, columns, device)
    draw_log_alphas(columns[NAME], store, args.out / "log_alpha.png")
    publish([make_table(columns, store)], args.out, "log_alpha.png")


def make_columns(data: Data, protocol: Protocol = PROTOCOL, num_samples: int = Args.num_samples) -> Columns:
    """Every prior over weights, with one guide and one network."""
    fits = {name: accuracy_fit(protocol, "sparse", prior=name) for name in WEIGHT_PRIORS}
    options = Options(hidden=HIDDEN)
    specs = {
        name: Spec(network="mlp", options=options, data=data, phases=(fit,), num_samples=num_samples)
        for name, fit in fits.items()
    }
    return {NAME: specs}


def make_table(columns: Columns, store: Store) -> Table:
    """One row per prior; mean and standard deviation over seeds."""
    header = ("prior", "error %", "Monte Carlo", "error % pruned", "pruned %", "median log alpha", "n")
    found = find_runs(store, columns[NAME])
    rows = []
    for name, runs in found.items():
        good = [run for run in runs if not run.diverged]
        keys = ("test_error", "test_error_mc", "test_error_pruned", "sparsity")
        medians = [run["log_alpha"]["quantiles"]["0.5"] for run in good]
        shares = [percent([run[key] for run in good]) for key in keys]
        rows.append((f"`{name}`", *shares, summary(medians, "{:.1f}"), count_runs(runs)))
    title = make_title(f"hidden layers of {NAME} units", [run for runs in found.values() for run in runs])
    return Table(title, header, tuple(rows))


if __name__ == "__main__":
    cli.run(Args, main)
