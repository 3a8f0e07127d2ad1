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
from pyro_vd.experiments.common.accuracy import Cell, Protocol, Row
from pyro_vd.experiments.common.accuracy_tables import interval
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import publish, summary, to_markdown
from pyro_vd.inference.engine import MatmulDtype
from pyro_vd.models import LeNet300

EXPERIMENT = "mixed_precision"
PROTOCOL = Protocol("mixed precision", epochs=20, batch_size=500, lr=2e-3, hold=0.5, wait=0.1, ramp=0.4)
SCHEMES = ("none", "sparse", "hierarchical")
FULL_DTYPE, REDUCED_DTYPE = get_args(MatmulDtype)


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme in both precisions and prints the differences."""

    out: Path = Path("runs/mixed_precision")
    """Folder of records, checkpoints and table."""


def main(args: Args) -> None:
    table = accuracy.run_all(args, EXPERIMENT, PROTOCOL, cells())
    text = to_markdown(precision_table(table.records()))
    publish(text, args.out)


def cells() -> list[Cell]:
    """Every scheme in both precisions."""
    rows = [Row(f"{scheme} {p}", scheme, matmul_dtype=p) for scheme, p in product(SCHEMES, (FULL_DTYPE, REDUCED_DTYPE))]
    return [Cell(row, "lenet300", LeNet300) for row in rows]


def precision_table(records: list[Record]) -> list[tuple[str, ...]]:
    """One row per scheme, header first: test errors in percent, their differences paired by seed."""
    header = ("scheme", f"error %, {FULL_DTYPE}", f"error %, {REDUCED_DTYPE}", "difference [95 %]", "n")
    errors: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        if not record["diverged"]:
            by_precision = errors.setdefault(record["scheme"], {FULL_DTYPE: {}, REDUCED_DTYPE: {}})
            by_precision[record["matmul_dtype"]][record["seed"]] = 100 * record["test_error"]
    return [header, *(_row(scheme, errors[scheme]) for scheme in SCHEMES if scheme in errors)]


def _row(scheme: str, errors: dict[str, dict[int, float]]) -> tuple[str, ...]:
    exact, rounded = errors[FULL_DTYPE], errors[REDUCED_DTYPE]
    differences = [rounded[seed] - exact[seed] for seed in sorted(exact.keys() & rounded.keys())]
    means = [summary(list(values.values()), "{:.2f}") for values in (exact, rounded)]
    return (f"`{scheme}`", *means, interval(differences), str(len(differences)))


if __name__ == "__main__":
    cli.run(Args, main)
