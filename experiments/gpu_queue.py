"""Every table cell that has no committed record yet, most valuable first, within a time budget.

``python -m experiments.gpu_queue --minutes 25 --device cuda`` runs cells until the next one would not fit, and leaves
records to copy into experiments/results. An interrupted cell goes on from its checkpoint when the queue runs again
with the same ``--out``. ``--list`` shows what is missing and runs nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments import mnist_compress
from experiments.common import cli
from experiments.common.records import differing, read_records
from experiments.common.training import data_for
from models import NETWORKS

COMMITTED = Path(__file__).parent / "results" / "mnist_compress"


@dataclass(frozen=True)
class Cell:
    """One run of mnist_compress: what it changes of that experiment's arguments, and its seed."""

    network: str
    scheme: str
    seed: int
    changes: dict[str, float] = field(default_factory=dict)

    def args(self, queue: Args) -> mnist_compress.Args:
        base = mnist_compress.Args(dataset="mnist", network=self.network, scheme=(self.scheme,))
        where = {"data": queue.data, "device": queue.device, "out": queue.out, "engine": queue.engine}
        return replace(base, **where, **self.changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return " ".join(
            [self.network, self.scheme, f"seed {self.seed}", *(f"{k}={v}" for k, v in self.changes.items())]
        )


# In order of value: the paper's headline network, then the seeds of the main table, then the error/compression curve.
CELLS = (
    *(Cell("lenet5", "sparse", seed) for seed in range(2)),
    Cell("lenet5", "sparse", 0, {"pretrain": 10, "epochs": 80}),
    *(Cell("lenet300", scheme, seed) for scheme in ("sparse", "hierarchical", "none") for seed in range(3)),
    *(Cell("lenet300", "sparse", seed, {"kl_weight": 0.7}) for seed in range(3)),
    *(Cell("lenet300", "hierarchical", seed, {"kl_weight": 0.3}) for seed in range(3)),
    *(Cell("lenet300", "sparse", seed, {"kl_weight": 1.25, "pretrain": 30, "epochs": 100}) for seed in range(3)),
    *(Cell("lenet300", "hierarchical", seed, {"kl_weight": 0.5, "pretrain": 30, "epochs": 100}) for seed in range(3)),
    *(Cell("lenet5", scheme, 0) for scheme in ("hierarchical", "none")),
    *(Cell("lenet300", s, 0, {"kl_weight": weight}) for weight in (0.1, 0.5, 2.0) for s in ("sparse", "hierarchical")),
)


@dataclass(frozen=True)
class Args:
    """Runs missing cells within a time budget."""

    minutes: float = 25.0
    """Stop before a cell that would not fit, judged by the longest one so far of the same network."""
    device: str = "auto"
    engine: str = "auto"
    data: Path | None = None
    out: Path = Path("runs/queue")
    list: bool = False
    """Show the missing cells and stop."""


def main(args: Args) -> None:
    missing = [cell for cell in CELLS if not _done(cell, COMMITTED) and not _done(cell, args.out)]
    if args.list:
        print("\n".join(map(str, missing)) or "nothing is missing")
        return
    device = cli.device_of(args.device)
    deadline = time.monotonic() + 60 * args.minutes
    longest: dict[str, float] = {}
    for cell in missing:
        left = deadline - time.monotonic()
        if left < longest.get(cell.network, 0.0):
            print(f"{cell}: would not fit into the {left / 60:.1f} minutes left")
            continue
        start = time.monotonic()
        split = data_for("mnist", NETWORKS[cell.network](), args.data).to(device)
        mnist_compress.one_run(cell.args(args), split, cell.scheme, cell.seed, device)
        longest[cell.network] = max(longest.get(cell.network, 0.0), time.monotonic() - start)


def _done(cell: Cell, folder: Path) -> bool:
    args = cell.args(Args())
    wanted = {name: getattr(args, name) for name in mnist_compress.PROTOCOL_FIELDS}
    wanted |= {"network": cell.network, "scheme": cell.scheme, "seed": cell.seed, "dataset": "mnist"}
    wanted["epochs"] = args.epochs or mnist_compress.HEADLINE.epochs
    return not all(differing(record, wanted, mnist_compress.DEFAULTS) for record in read_records(folder))


if __name__ == "__main__":
    cli.run(Args, main)
