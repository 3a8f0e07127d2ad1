"""Effect of bfloat16 matrix products on accuracy.

``python -m experiments.mixed_precision`` trains LeNet-300-100 on MNIST with every scheme below, in float32 and with the
matrix products of the means in bfloat16, and compares the errors seed by seed. Every run writes one JSON record; an
interrupted run resumes. The experiment does not measure speed, which depends on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import interval, make_title, paired_differences
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import Table, percent
from pyro_vd.inference.engine import MatmulDtype

STUDY = "mixed_precision"
PROTOCOL = Protocol(name="mixed precision", epochs=20, batch_size=500, lr=2e-3, wait=0.1, ramp=0.4)
SCHEMES = ("none", "sparse", "hierarchical")
DTYPES = FULL_DTYPE, REDUCED_DTYPE = get_args(MatmulDtype)


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme in both precisions and prints the differences."""

    num_samples: int = 1
    """Weight draws of a Monte Carlo prediction."""
    out: Path = Path("runs/mixed_precision")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    data = Data(name=choose_dataset(args.dataset, args.data), validation=args.validation)
    columns = make_columns(data, accuracy.set_epochs(PROTOCOL, args), args.num_samples)
    store = accuracy.run_columns(args, STUDY, columns, device)
    publish([make_table(columns, store)], args.out)


def make_columns(data: Data, protocol: Protocol = PROTOCOL, num_samples: int = Args.num_samples) -> Columns:
    """Every scheme in both precisions."""
    rows = {
        f"{scheme} {dtype}": accuracy_fit(protocol, scheme, matmul_dtype=dtype)
        for scheme, dtype in product(SCHEMES, DTYPES)
    }
    specs = {n: Spec(network="lenet300", data=data, phases=(fit,), num_samples=num_samples) for n, fit in rows.items()}
    return {"lenet300": specs}


def make_table(columns: Columns, store: Store) -> Table:
    """One row per scheme: test errors in percent, their differences paired by seed."""
    found = find_runs(store, columns["lenet300"])
    header = ("scheme", f"error %, {FULL_DTYPE}", f"error %, {REDUCED_DTYPE}", "difference [95 %]", "pairs")
    rows = []
    for scheme in SCHEMES:
        exact, rounded = (found.get(f"{scheme} {dtype}", []) for dtype in DTYPES)
        if not exact and not rounded:
            continue
        differences = paired_differences(rounded, exact)
        errors = [percent([run["test_error"] for run in runs if not run.diverged]) for runs in (exact, rounded)]
        rows.append((f"`{scheme}`", *errors, interval(differences), str(len(differences))))
    title = make_title("LeNet-300-100", [run for runs in found.values() for run in runs])
    return Table(title, header, tuple(rows))


if __name__ == "__main__":
    cli.run(Args, main)
