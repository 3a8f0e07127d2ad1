"""The UCI regression benchmark of Bayesian neural networks, with the dropout schemes that no published table has.

``python -m experiments.uci`` trains one hidden layer of 50 units (100 for protein) with every scheme on the standard
splits of eight sets, all splits of a set at once, and compares log likelihood and error of the test examples with
published tables and, split by split, with Monte Carlo dropout. The noise is learned. A scheme's settings are chosen for
each split by its training examples alone. Every set and scheme writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_vd.data import UCI_SETS, load_uci
from pyro_vd.errors import UserError, did_you_mean
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Options
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.uci_pictures import draw_likelihoods
from pyro_vd.experiments.common.uci_runs import RegressionSpec, try_splits
from pyro_vd.experiments.common.uci_tables import KEYS, REPEATED, make_tables, write_scores

STUDY = "uci"
KINDS = {"RegressionSpec": RegressionSpec}
STEPS = tuple(Options(steps=steps) for steps in (2000, 8000))
FEW_STEPS = (Options(steps=500), *STEPS)  # without a prior, fewer steps are the regularization
ROWS: dict[str, dict[str, Any]] = {
    "none": {"scheme": "none", "settings": FEW_STEPS},
    "Bernoulli": {"scheme": "bernoulli", "settings": tuple(Options(p=p) for p in (0.005, 0.01, 0.05, 0.1))},
    "concrete": {"scheme": "concrete", "settings": STEPS},
    "variational A": {"scheme": "variational_a", "settings": STEPS},
    "variational B": {"scheme": "variational_b", "settings": STEPS},
    "sparse": {"scheme": "sparse", "settings": STEPS},
    "hierarchical": {"scheme": "hierarchical", "settings": STEPS},
    "Normal prior": {"scheme": "sparse", "prior": "Normal(0, 1)", "settings": STEPS},
    "group normal-Jeffreys": {"scheme": "group_normal_jeffreys", "settings": STEPS},
    "ensemble of 5": {"scheme": "none", "settings": FEW_STEPS, "members": 5},
    REPEATED: {
        "scheme": "sparse", "prior": "HierarchicalNormal(1, 10)", "noise": "heteroscedastic", "biases": True,
        "lr": 3e-3,  # at 1e-2 a seed of protein diverged
    },
}  # fmt: skip
"""Row -> the fields of its run. The last one repeats the row MCVI of Wu et al. 2019."""


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains every scheme on every set and prints the tables."""

    sets: tuple[str, ...] = tuple(UCI_SETS)
    """Names of sets."""
    rows: tuple[str, ...] = tuple(ROWS)
    """Names of rows."""
    splits: int = 20
    """The first so many splits of every set; protein has 5."""
    out: Path = Path("runs/uci")
    """Folder of records, checkpoints, tables and picture."""


def main(args: Args) -> None:
    for name in args.rows:
        if name not in ROWS:
            raise UserError(f"--rows: unknown row {name!r}{did_you_mean(name, ROWS)} (known: {', '.join(ROWS)})")
    cli.check_counts(args, "splits")
    device = cli.begin(args)
    store = Store(args.out, KINDS)
    for set_name in args.sets:
        table = load_uci(set_name, args.data)
        specs = {make_spec(name, set_name, min(args.splits, len(table.test_rows))): name for name in args.rows}
        for spec in store.unfinished(specs, KEYS, args.resume, table.sha256):
            print(f"{set_name}, {specs[spec]}: {spec.splits} splits")
            start = time.monotonic()
            checkpoints = args.out / "checkpoints" / store.path(spec).stem
            numbers = try_splits(spec, table, args.engine, device, checkpoints)
            published = table.mc_dropout["log_likelihood"].tolist()
            where = {"experiment": STUDY, "row": specs[spec], "data_sha256": table.sha256, **environment(device)}
            store.save(spec, {**where, "seconds": time.monotonic() - start, **numbers, "mc_dropout": published})
    draw(store)
    publish(make_tables(store, ROWS), args.out, "likelihoods.png")


def draw(store: Store) -> None:
    """Writes the picture, and the scores of every split, beside the records."""
    draw_likelihoods(store, ROWS, store.folder / "likelihoods.png")
    write_scores(store, store.folder / "scores.csv")


def make_spec(row: str, set_name: str, splits: int) -> RegressionSpec:
    """The run of a row on a set."""
    return RegressionSpec(dataset=set_name, splits=splits, hidden=100 if set_name == "protein" else 50, **ROWS[row])


if __name__ == "__main__":
    cli.run(Args, main)
