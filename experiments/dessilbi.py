"""DessiLBI against SGD, and pruning of filters and weights along its path (Fu et al. 2020).

``python -m experiments.dessilbi`` trains the LeNet of 1998 on MNIST for 60 epochs (learning rate 0.1, a tenth of it
every 20 epochs, batch size 128). Each network is pruned in its third convolution, and there and in the layer after it:
those of DessiLBI in the order in which filters and weights entered the support, that of SGD by magnitude, and that of
sparse variational dropout by log_alpha. ``--network vgg`` trains a narrow VGG on CIFAR-10, without pruning. Every run
writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pyro_vd import Training, optim, schedules
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.images import choose_dataset
from pyro_vd.experiments.common.path_measures import DIVERGED, PATH_KEYS, measure_path
from pyro_vd.experiments.common.path_pictures import draw
from pyro_vd.experiments.common.path_tables import make_tables
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import Data, Fit, Options, Spec

STUDY = "dessilbi"
NETWORK_DATASETS = {"lenet1998": "mnist", "vgg": "cifar10"}
NETWORK_OPTIONS = {"lenet1998": Options(), "vgg": Options(scale=0.25)}
EPOCHS = {"lenet1998": 60, "vgg": 30}
BATCH_SIZE, LR = 128, 0.1
CLIP_NORM = 1.0  # without it, some seeds of the LeNet lose all units in the first steps at this rate and momentum
NU = {"lenet1998": 20.0, "vgg": 500.0}  # of the authors' examples
SLOW = 0.01  # kappa of the row with Adam: W moves at Adam's usual rate of 1e-3, and Z at the rate of the other row
ADAM_LR = 1e-3  # of sparse variational dropout


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every row and prints the tables."""

    network: Literal["lenet1998", "vgg"] = "lenet1998"
    """lenet1998 is for MNIST, vgg, at a quarter of its widths, for CIFAR-10."""
    num_samples: int = 1
    """Weight draws of a Monte Carlo prediction."""
    out: Path = Path("runs/dessilbi")
    """Folder of records, checkpoints, tables and pictures."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    dataset = choose_dataset(args.dataset, args.data, NETWORK_DATASETS[args.network])
    data = Data(name=dataset, validation=args.validation)
    columns = make_columns(data, args.network, args.epochs, args.num_samples)
    runner = accuracy.make_runner(args, STUDY, device, measure_path, PATH_KEYS, DIVERGED)
    runner.run_all(accuracy.seeds_of(accuracy.select_rows(columns, args.row), args.seeds))
    publish(make_tables(columns, runner.store), args.out, *draw(columns, runner.store))


def make_columns(data: Data, network: str, epochs: int | None = None, num_samples: int = Args.num_samples) -> Columns:
    """Every row on this network.

    Args:
        epochs: of every row; by default the network's.
    """
    nu = NU[network]
    trainings: dict[str, dict[str, Any]] = {
        "SGD": {"optimizer": optim.SGD(momentum=0.9), "clip_norm": CLIP_NORM},
        "DessiLBI": {"optimizer": optim.DessiLBI(nu=nu, momentum=0.9), "clip_norm": CLIP_NORM},
        "DessiLBI, Adam": {"optimizer": optim.DessiLBIAdam(kappa=SLOW, nu=nu)},
    }
    if network == "lenet1998":
        trainings["sparse"] = {"lr": ADAM_LR, "kl_schedule": schedules.WarmUp(5, 15)}
    return {
        network: {
            name: Spec(
                network=network,
                options=NETWORK_OPTIONS[network],
                data=data,
                phases=(_make_fit("sparse" if name == "sparse" else "none", epochs or EPOCHS[network], **training),),
                num_samples=num_samples,
            )
            for name, training in trainings.items()
        }
    }


def _make_fit(scheme: str, epochs: int, lr: float = LR, **training) -> Fit:
    decay = schedules.StepDecay(max(1, epochs // 3))
    return Fit(
        scheme=scheme,
        training=Training(epochs=epochs, batch_size=BATCH_SIZE, lr=lr, lr_schedule=decay, **training),
    )


if __name__ == "__main__":
    cli.run(Args, main)
