"""Dropout schemes, pruning and the steps of a recipe on a ResNet9 that two CPU cores train on all of CIFAR-10.

``python -m experiments.resnet9`` trains the rows of every part; ``--part`` chooses some. The recipe: random crops and
flips, one cycle of the learning rate at every step, label smoothing, SGD with Nesterov's momentum, bfloat16 products,
and the mean over a test image and its mirror image. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pyro_vd.experiments.common import accuracy, cli, compression
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.measures import ACCURACY_KEYS, COMPRESSION_KEYS, measure_accuracy, measure_compression
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.resnet9_rows import make_columns
from pyro_vd.experiments.common.resnet9_tables import draw, make_tables
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Store

STUDY = "resnet9"
DATA = Data(name="cifar10", augment=True, cutout=0)
Part = Literal["schemes", "steps", "pruning"]
ACCURACY = measure_accuracy, ACCURACY_KEYS, accuracy.DIVERGED
MEASURED = {"pruning": (measure_compression, COMPRESSION_KEYS, compression.DIVERGED)}


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains the rows of every part and prints the tables."""

    part: tuple[Part, ...] = ("schemes", "steps", "pruning")
    """schemes: the recipe with dropout; steps: from a plain training to the recipe; pruning: from a trained network."""
    seeds: int = 1
    """Seeds 0 .. n-1, one run each."""
    out: Path = Path("runs/resnet9")
    """Folder of records, checkpoints and tables."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    name = choose_dataset(args.dataset, args.data, DATA.name)
    columns = make_columns(replace(DATA, name=name, validation=args.validation), args.epochs, args.num_samples)
    chosen = accuracy.select_rows({part: columns[part] for part in args.part}, args.row)
    for part, rows in chosen.items():
        runner = accuracy.make_runner(args, STUDY, device, *MEASURED.get(part, ACCURACY))
        runner.run_all(accuracy.seeds_of({part: rows}, args.seeds))
    store = Store(args.out)
    draw(columns, store)
    publish(make_tables(columns, store), args.out, "steps.png", "curves.png")


if __name__ == "__main__":
    cli.run(Args, main)
