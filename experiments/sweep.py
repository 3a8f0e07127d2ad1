"""The missing runs of a plan, on all cores or GPUs of this machine or on a Ray cluster.

``python -m experiments.sweep`` makes the runs of the committed tables that have no record yet, in order of value.
``--list`` prints them and runs nothing, ``--study`` and ``--match`` select some, and ``--plan`` names another plan.
``--cluster auto`` runs the same on a Ray cluster. A sweep that is interrupted resumes when its command runs again.
"""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.pools import LocalPool, RayPool, visible_cores, visible_gpus
from pyro_vd.experiments.common.store import Store, committed
from pyro_vd.experiments.common.sweeps import Cell, Place, missing, run_sweep, save
from pyro_vd.experiments.studies import run_cell
from pyro_vd.inference.engine import EngineName

FAILED = 3  # exit code


@dataclass(frozen=True, kw_only=True)
class Args:
    """Makes the missing runs of a plan."""

    plan: str = "pyro_vd.experiments.plans:PLAN"
    """package.module:NAME of a sequence of cells."""
    study: tuple[str, ...] = ()
    """Only the runs of these studies."""
    match: str = ""
    """Only the runs whose line in --list contains this text."""
    list: bool = False
    """Print the missing runs and stop."""
    committed: bool = True
    """Leave out the runs whose records are committed; --no-committed makes them again."""
    workers: int = 0
    """Processes on this machine; 0 for one per GPU or per core."""
    cluster: str | None = None
    """Address of a Ray cluster, or auto for the one of this machine; by default none."""
    retries: int = 2
    """A run that fails, or whose worker dies, is made so many times again before it is given up."""
    minutes: float | None = None
    """Begin no run that would end later than this, estimated by the slowest one of its kind so far."""
    engine: EngineName = "auto"
    """What runs the training steps; cudagraph needs a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """cuda gives every worker a GPU; auto is cuda if this machine has a GPU."""
    data: Path | None = None
    """Folder of the datasets on every machine; by default $PYRO_VD_DATA or the user's cache."""
    out: Path = Path("runs/sweep")
    """Folder with one folder of records per study."""
    scratch: Path | None = None
    """Folder of the checkpoints on every machine, by default that of --out."""


def main(args: Args) -> None:
    cells = _select(args)
    if args.list:
        print("\n".join(map(str, cells)) or "nothing is missing")
        return
    there = args.cluster and args.device != "auto"  # a GPU of the cluster need not be on this machine
    device = args.device if there else cli.device_of(args.device).type
    cli.check_engine(args.engine, torch.device(device))
    cli.check_folder(args.out)
    if not cells:
        print("nothing is missing")
        return
    place = Place(
        device=device,
        engine=args.engine,
        data=args.data and args.data.absolute(),
        scratch=(args.scratch or args.out).absolute(),
    )
    with make_pool(args, device) as pool:
        print(f"{len(cells)} run{'s' * (len(cells) > 1)}, {pool.slots} at once", flush=True)
        failed = run_sweep(
            cells, pool, run_cell, place,
            keep=lambda cell, files: save(Store(args.out / cell.study), cell.spec, files),
            retries=args.retries,
            minutes=math.inf if args.minutes is None else args.minutes,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
    for cell, error in failed.items():
        print(f"\n{cell}\n{error}")
    if failed:
        print(f"error: {len(failed)} of {len(cells)} runs failed; the same command tries them again", file=sys.stderr)
        raise SystemExit(FAILED)
    print(f"the records are in {args.out}; python -m experiments.STUDY --out {args.out}/STUDY prints a table")


def make_pool(args: Args, device: str) -> LocalPool | RayPool:
    """The workers that are asked for."""
    if args.cluster:
        return RayPool(args.cluster, gpu=device == "cuda")
    gpus = visible_gpus() if device == "cuda" else []
    return LocalPool(args.workers or len(gpus) or len(visible_cores()) or 1, gpus, args.out / "logs")


def _select(args: Args) -> list[Cell]:
    """The missing cells that are asked for, in the order of the plan."""
    plan = import_plan(args.plan)
    for study in args.study:
        cli.nearest("study", study, dict.fromkeys(cell.study for cell in plan))
    if args.workers < 0 or args.retries < 0:
        raise UserError("--workers and --retries must be at least 0")
    if args.minutes is not None and not 0 < args.minutes < math.inf:
        raise UserError("--minutes must be above 0 and finite")

    def find_stores(study: str) -> list[Store]:
        return [Store(args.out / study), *([committed(study)] if args.committed else [])]

    asked = [cell for cell in plan if not args.study or cell.study in args.study]
    return missing([cell for cell in asked if args.match in str(cell)], find_stores)


def import_plan(name: str) -> tuple[Cell, ...]:
    """Imports the cells that ``package.module:NAME`` names; equal ones once.

    Raises:
        UserError: for a malformed name, a module that cannot be imported, or a value that is no plan.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        raise UserError(f"--plan {name!r}: written package.module:NAME")
    try:
        plan = tuple(getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"--plan {name!r}: {error}; is it importable from here?") from None
    if not all(isinstance(cell, Cell) for cell in plan):
        raise UserError(f"--plan {name!r}: must be a sequence of cells")
    return tuple(dict.fromkeys(plan))


if __name__ == "__main__":
    cli.run(Args, main)
