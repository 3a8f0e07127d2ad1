"""Predictive metrics of every scheme: proper scores, calibration, and out-of-distribution uncertainty.

``python -m experiments.uncertainty`` trains LeNet-300-100 on MNIST with every scheme for 40 epochs and evaluates the
posterior mean and the average over weight draws. Monte Carlo dropout (Gal and Ghahramani 2016) is the row of Bernoulli
dropout; a deep ensemble (Lakshminarayanan et al. 2017) is several networks without noise. FashionMNIST is the
out-of-distribution dataset, and rotated digits show how error and uncertainty grow. ``--dataset fashion_mnist``
exchanges the two datasets, and ``--network cifar_cnn`` does the same on CIFAR-10. Every run writes one JSON record and
its log scores; an interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vd import Posterior, metrics
from pyro_vd.data import DataSplits
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Columns
from pyro_vd.experiments.common.images import choose_dataset, load_images
from pyro_vd.experiments.common.predictive import ood_auroc, quality, risk_coverage, rotate_images, scaled_quality
from pyro_vd.experiments.common.protocols import Protocol, accuracy_fit
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.runner import Trained, make_runner
from pyro_vd.experiments.common.spec import Data, Spec
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.uncertainty_pictures import draw_reliability, draw_risk_coverage, draw_rotation
from pyro_vd.experiments.common.uncertainty_tables import make_tables
from pyro_vd.models import NETWORKS

STUDY = "uncertainty"
PROTOCOL = Protocol(name="uncertainty", epochs=40, batch_size=500, lr=2e-3, wait=0.1, ramp=0.4)
NETWORK_DATASETS = {"lenet300": "mnist", "cifar_cnn": "cifar10"}
MEMBERS = 5
ROWS: dict[str, dict[str, Any]] = {
    "none": {"scheme": "none"},
    f"deep ensemble of {MEMBERS}": {"scheme": "none", "members": MEMBERS},
    "Monte Carlo dropout": {"scheme": "bernoulli"},
    "Gaussian S": {"scheme": "gaussian_srivastava"},
    "Gaussian W": {"scheme": "gaussian_wang"},
    "variational A": {"scheme": "variational_a"},
    "variational B": {"scheme": "variational_b"},
    "sparse": {"scheme": "sparse"},
    "hierarchical": {"scheme": "hierarchical"},
    "hierarchical A": {"scheme": "hierarchical_a"},
    "concrete": {"scheme": "concrete"},
    "group normal-Jeffreys": {"scheme": "group_normal_jeffreys"},
    "group horseshoe": {"scheme": "group_horseshoe"},
    "structured log-normal": {"scheme": "structured_log_normal"},
    "L0": {"scheme": "l0"},
}
ANGLES = tuple(range(0, 181, 15))
NUM_ROTATED = 2_000  # rotated test images
KEYS = ("mean", "draws", "uncertainty", "auroc", "rotated", "risk_coverage", "ood_datasets")
"""Numbers of every record; those on MNIST are older than ``scaled``."""


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme and prints the metrics of its predictions."""

    network: Literal["lenet300", "cifar_cnn"] = "lenet300"
    """lenet300 is for MNIST, cifar_cnn for CIFAR-10."""
    ood_datasets: tuple[str, ...] | None = None
    """Datasets whose test images are out of distribution; those that cannot be loaded are left out. The default is
    mnist for fashion_mnist, and fashion_mnist for the others."""
    num_samples: int = 20
    """Weight draws of a prediction, divided among the members of an ensemble."""
    out: Path = Path("runs/uncertainty")
    """Folder of records, log scores, checkpoints, tables and pictures."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    dataset = choose_dataset(args.dataset, args.data, NETWORK_DATASETS[args.network])
    outside = choose_ood_datasets(dataset) if args.ood_datasets is None else args.ood_datasets
    if dataset in outside:
        raise UserError(f"--ood-datasets: {dataset} is the training set; name others, or none")
    data = Data(name=dataset, validation=args.validation)
    columns = make_columns(data, args.network, accuracy.set_epochs(PROTOCOL, args), args.num_samples)
    ood = load_ood_datasets(outside, NETWORKS[args.network](), args.data)
    measure = partial(measure_predictions, ood=ood)
    runner = make_runner(args, STUDY, device, measure, KEYS, dict.fromkeys(KEYS))
    specs = accuracy.seeds_of(accuracy.select_rows(columns, args.row), args.seeds)
    if args.resume:
        _check_records(runner.store, specs, ood)
    runner.run_all(specs)
    pictures = draw(columns, runner.store)
    publish(make_tables(columns, runner.store, KEYS), args.out, *pictures)


def make_columns(
    data: Data, network: str, protocol: Protocol = PROTOCOL, num_samples: int = Args.num_samples
) -> Columns:
    """Every row on this network. The name of the column is that of the network, with the dataset if it is another one
    than the network's."""
    specs = {}
    for name, row in ROWS.items():
        phases = (accuracy_fit(protocol, row["scheme"]),)
        members = row.get("members", 1)
        specs[name] = Spec(network=network, data=data, phases=phases, members=members, num_samples=num_samples)
    return {network if data.name == NETWORK_DATASETS[network] else f"{network}-{data.name}": specs}


def draw(columns: Columns, store: Store) -> tuple[str, ...]:
    """Draws three pictures for every column, and returns their names."""
    pictures = {"reliability": draw_reliability, "rotation": draw_rotation, "risk_coverage": draw_risk_coverage}
    names = []
    for column, rows in columns.items():
        first = {name: run for name, spec in rows.items() if (run := store.load(spec, KEYS)) and not run.diverged}
        for kind, draw_picture in pictures.items():
            if first:
                names.append(f"{column}-{kind}.png")
                draw_picture(first, store.folder / names[-1])
    return tuple(names)


def measure_predictions(trained: Trained, ood: Mapping[str, DataSplits]) -> Record:
    """The numbers of a record; writes the log scores of the test examples beside it."""
    posteriors = [state.posterior for state in trained.states if state.posterior is not None]
    spec = trained.spec
    draws = 1 if spec.method == "none" else -(-spec.num_samples // spec.members)
    scores, numbers = evaluate(posteriors, draws, trained.split, ood)
    trained.stem.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(f"{trained.stem}.npz", log_score=scores.cpu().numpy().astype(np.float16))
    return {**numbers, "ood_datasets": _digests(ood)}


def _digests(ood: Mapping[str, DataSplits]) -> dict[str, str]:
    return {name: split.sha256 for name, split in ood.items()}


def _check_records(store: Store, specs: Sequence[Spec], ood: Mapping[str, DataSplits]) -> None:
    """Refuses records with other out-of-distribution datasets, which are not part of a spec."""
    for spec in specs:
        run = store.load(spec, KEYS)
        if run and not run.diverged and run["ood_datasets"] != _digests(ood):
            names = ", ".join(run["ood_datasets"]) or "none"
            raise UserError(f"{run.path}: has other --ood-datasets ({names}); choose another --out or --no-resume")


def evaluate(
    members: Sequence[Posterior], draws: int, split: DataSplits, ood: Mapping[str, DataSplits]
) -> tuple[Tensor, Record]:
    """Evaluates the average over ``draws`` of every member.

    Returns:
        log scores of the test labels, (n,), and the numbers of the record.
    """
    images, labels = split.test.images, split.test.labels
    torch.manual_seed(0)  # the same noise in a resumed run

    def predicted(images: Tensor) -> Tensor:
        return torch.cat([member.predict(images.to(labels.device), draws) for member in members])

    logits = predicted(images)
    in_distribution = metrics.predictive_uncertainty(logits)
    auroc = {
        name: ood_auroc(in_distribution, metrics.predictive_uncertainty(predicted(one.test.images)))
        for name, one in ood.items()
    }
    predictions = {"draws": logits}
    if len(members) == 1:  # an ensemble has no posterior mean
        predictions["mean"] = metrics.compute_logits(members[0].mean(), split.test)[None]
    numbers = {
        "mean": None,
        **{kind: quality(found, labels) for kind, found in predictions.items()},
        "scaled": {kind: scaled_quality(found, labels) for kind, found in predictions.items()},
        "uncertainty": {part: values.mean().item() for part, values in in_distribution._asdict().items()},
        "auroc": auroc,
        "rotated": [
            _evaluate_rotated(angle, predicted, images[:NUM_ROTATED], labels[:NUM_ROTATED]) for angle in ANGLES
        ],
        "risk_coverage": risk_coverage(logits, labels),
    }
    return metrics.log_score(logits, labels), numbers


def _evaluate_rotated(
    angle: int, predicted: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> dict[str, float]:
    """Error and uncertainty on images rotated by this many degrees."""
    logits = predicted(rotate_images(images, angle))
    found = metrics.predictive_uncertainty(logits)
    return {
        "angle": angle,
        "error": metrics.error_rate(metrics.predictive_probabilities(logits), labels),
        "entropy": found.total.mean().item(),
        "epistemic": found.epistemic.mean().item(),
    }


def choose_ood_datasets(dataset: str) -> tuple[str, ...]:
    """The out-of-distribution datasets of a training set: its images have the same shape and other classes."""
    return ("mnist",) if dataset == "fashion_mnist" else ("fashion_mnist",)


def load_ood_datasets(names: Sequence[str], network: nn.Module, folder: Path | None) -> dict[str, DataSplits]:
    """Loads the out-of-distribution datasets in the network's input shape; prints which ones cannot be loaded."""
    found = {}
    for name in names:
        try:
            found[name] = load_images(Data(name=name), network, folder)
        except DataError as error:
            print(f"out of distribution: without {name}: {error}")
    return found


if __name__ == "__main__":
    cli.run(Args, main)
