"""The two CIFAR-10 tables of the reference repository, on a small network and all images.

``python -m experiments.cifar_reference`` trains the LeNet of PyTorch's tutorial by the reference's protocol (50,000
images, batch size 1000, Adam at 1e-3, 100 epochs, no augmentation) with every scheme, at one width; ``--scale 1.5`` and
``--scale 2`` are its other widths. The reference does not publish its network. Every run writes one JSON record; an
interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyro_vd.experiments.cifar_accuracy import make_rows
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns, find_runs
from pyro_vd.experiments.common.accuracy_tables import accuracy_tables
from pyro_vd.experiments.common.conclusions import Claim, conclusions_table
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.published import FORERUNNER, errors_by_width
from pyro_vd.experiments.common.spec import Data, Options, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import Table
from pyro_vd.models import CifarLeNet

STUDY = "cifar_reference"
PROTOCOL = Protocol(name="reference", epochs=100, batch_size=1000, hold=1.0, wait=0.025, ramp=0.075)
SCALES = (1.0, 1.5, 2.0)
NOISES = ("A, before fc", "A, after conv", "B, per weight", "B, per weight, on W", "B, per unit")
HIERARCHICAL, VARIATIONAL = (
    tuple(f"{scheme} {noise}" for noise in NOISES) for scheme in ("hierarchical", "variational")
)
FIXED = ("Bernoulli", "Gaussian S", "Gaussian W")
BEFORE_FC, AFTER_CONV, PER_UNIT = (
    tuple(f"{scheme} {noise}" for scheme in ("hierarchical", "variational"))
    for noise in ("A, before fc", "A, after conv", "B, per unit")
)
LOCAL = ("variational B, per weight", "hierarchical B, per weight", "sparse B, per weight")
DRAWN = tuple(f"{row}, on W" for row in LOCAL)
CLAIMS = (
    Claim("Hierarchical dropout has a lower error than variational dropout.", HIERARCHICAL, VARIATIONAL),
    Claim("Variational dropout has a lower error than fixed rates.", VARIATIONAL, FIXED),
    Claim("Variational dropout has a lower error than no dropout.", VARIATIONAL, ("none",)),
    Claim("Noise before fc and noise after conv have the same error.", BEFORE_FC, AFTER_CONV, "same"),
    Claim("Local reparameterization has a lower error than draws of W.", LOCAL, DRAWN),
    Claim("Type B has a lower error than type A.", PER_UNIT, BEFORE_FC),
)
OMITTED = ("hierarchical B, naive formulas",)  # it diverges, and tells nothing about the reference


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme and prints the tables."""

    scale: Literal["1", "1.5", "2"] = "1"
    """Factor of the network's widths."""
    out: Path = Path("runs/cifar_reference")
    """Folder of records, checkpoints and tables."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    data = Data(name=choose_dataset(args.dataset, args.data, "cifar10"), validation=args.validation)
    protocol = accuracy.set_epochs(PROTOCOL, args)
    columns = make_columns(data, (float(args.scale),), protocol, args.num_samples)
    store = accuracy.run_columns(args, STUDY, columns, device)
    published = find_published if (data, protocol) == (Data(name="cifar10"), PROTOCOL) else None
    publish(make_tables(columns, store, protocol, published), args.out)


def make_columns(
    data: Data, scales: tuple[float, ...] = SCALES, protocol: Protocol = PROTOCOL, num_samples: int = Args.num_samples
) -> Columns:
    """Every row of the reference at every width."""
    return {
        f"widths x {scale:g}": {
            name: Spec(
                network="cifar_lenet",
                options=Options(scale=scale),
                data=data,
                phases=(accuracy_fit(protocol, **row),),
                num_samples=num_samples,
            )
            for name, row in make_rows(CifarLeNet(scale=scale)).items()
            if name not in OMITTED
        }
        for scale in scales
    }


def make_tables(
    columns: Columns, store: Store, protocol: Protocol = PROTOCOL,
    published: Callable[[str], Mapping[str, float]] | None = None,
) -> list[Table]:  # fmt: skip
    """The errors of every width, and whether the reference's conclusions hold, over all widths."""
    conclusions = conclusions_table(CLAIMS, [find_runs(store, rows) for rows in columns.values()])
    return [*accuracy_tables(columns, store, protocol.name, published), *([conclusions] if conclusions else [])]


def find_published(column: str) -> dict[str, float]:
    """Row -> error of the reference at these widths, one run each, a fraction."""
    scale = float(column.split()[-1])
    return {row: errors[scale] for row, errors in errors_by_width(FORERUNNER, "cifar_cnn").items() if scale in errors}


if __name__ == "__main__":
    cli.run(Args, main)
