"""Predictive metrics of every scheme: proper scores, calibration, and out-of-distribution uncertainty.

``python -m experiments.uncertainty`` trains LeNet-300-100 on MNIST with every scheme for 40 epochs and evaluates the
posterior mean and the average over weight draws. Monte Carlo dropout (Gal and Ghahramani 2016) is the row of Bernoulli
dropout; a deep ensemble (Lakshminarayanan et al. 2017) is several networks without noise. FashionMNIST is the
out-of-distribution dataset, and rotated digits show how error and uncertainty grow. ``--network cifar_cnn`` does the
same on CIFAR-10. Every run writes one JSON record and its log scores; an interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vd import NonFiniteError, Posterior, metrics
from pyro_vd.data import DataSplits
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Cell, Protocol, Row, Table
from pyro_vd.experiments.common.predictive import ood_auroc, quality, risk_coverage, rotate_images
from pyro_vd.experiments.common.records import Record, environment, load_or_start, read_records, slug, write_record
from pyro_vd.experiments.common.tables import publish
from pyro_vd.experiments.common.training import initial_net, load_data, make_pair
from pyro_vd.experiments.common.uncertainty_pictures import draw_reliability, draw_risk_coverage, draw_rotation
from pyro_vd.experiments.common.uncertainty_tables import groups, tables
from pyro_vd.models import NETWORKS

EXPERIMENT = "uncertainty"
PROTOCOL = Protocol("uncertainty", epochs=40, batch_size=500, lr=2e-3, hold=0.5, wait=0.1, ramp=0.4)
NETWORK_DATASETS = {"lenet300": "mnist", "cifar_cnn": "cifar10"}
ENSEMBLE, MEMBERS = "deep ensemble", 5
ROWS = (
    Row("none", "none"),
    Row(f"{ENSEMBLE} of {MEMBERS}", "none"),
    Row("Monte Carlo dropout", "bernoulli"),
    Row("Gaussian S", "gaussian_srivastava"),
    Row("Gaussian W", "gaussian_wang"),
    Row("variational A", "variational_a"),
    Row("variational B", "variational_b"),
    Row("sparse", "sparse"),
    Row("hierarchical", "hierarchical"),
    Row("hierarchical A", "hierarchical_a"),
    Row("concrete", "concrete"),
    Row("group normal-Jeffreys", "group_normal_jeffreys"),
    Row("group horseshoe", "group_horseshoe"),
    Row("structured log-normal", "structured_log_normal"),
    Row("L0", "l0"),
)
ANGLES = tuple(range(0, 181, 15))
NUM_ROTATED = 2_000  # rotated test images
REQUIRED = ("experiment", "protocol", "dataset", "data_sha256", "row", "column", "scheme", "seed", "epochs", "members",
            "ood_datasets", "num_samples", "device", "torch", "revision", "seconds", "diverged", "mean", "draws",
            "uncertainty", "auroc", "rotated", "risk_coverage")  # fmt: skip
NUMBERS = ("mean", "draws", "uncertainty", "auroc", "rotated", "risk_coverage")


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains every scheme and prints the metrics of its predictions."""

    network: str = "lenet300"
    """lenet300, for MNIST, or CifarCNN, for CIFAR-10."""
    ood_datasets: tuple[str, ...] = ("fashion_mnist",)
    """Datasets whose test images are out of distribution; those that cannot be loaded are left out."""
    num_samples: int = 20
    """Weight draws of a prediction, divided among the members of an ensemble."""
    out: Path = Path("runs/uncertainty")
    """Folder of records, log scores, checkpoints, tables and pictures."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    dataset = NETWORK_DATASETS[cli.nearest("network", args.network, NETWORK_DATASETS)]
    todo = accuracy.select_cells(cells(args.network), args.row)
    split = load_data(args.dataset, NETWORKS[args.network](), args.data, dataset, args.validation)
    if split.origin in args.ood_datasets:
        raise UserError(f"--ood-datasets: {split.origin} is the training set; name others, or none")
    table = Table(EXPERIMENT, PROTOCOL, split.to(device), device, args)
    ood = load_ood_datasets(args, NETWORKS[args.network]())
    for seed in range(args.seeds):
        for cell in todo:
            one_run(table, cell, seed, ood)
    report(args.out)


def cells(network: str) -> list[Cell]:
    """Every row on this network."""
    return [Cell(row, network, NETWORKS[network]) for row in ROWS]


def report(out: Path) -> None:
    """Prints the tables of all records in ``out`` and writes them there with the pictures."""
    records = read_records(out, REQUIRED)
    text = tables(records, log_scores(records, out))
    draw(records, out)
    publish(text, out, "pictures")


def draw(records: Sequence[Record], out: Path) -> None:
    """Draws three pictures for every group of records."""
    for name, group in groups(records).items():
        stem = slug(name.replace(", ", "-"))
        draw_reliability(group, out / f"{stem}-reliability.png")
        draw_rotation(group, out / f"{stem}-turned.png")
        draw_risk_coverage(group, out / f"{stem}-rejection.png")


def one_run(table: Table, cell: Cell, seed: int, ood: dict[str, DataSplits]) -> Record:
    """Trains and evaluates one row with one seed, or loads the record of the same run."""
    members = MEMBERS if cell.row.name.startswith(ENSEMBLE) else 1
    shas = {name: split.sha256 for name, split in ood.items()}
    settings = {**accuracy.settings_of(table, cell, seed), "members": members, "ood_datasets": shas}
    name = slug(f"{cell.column}-{cell.row.name}-{settings['protocol']}-s{seed}")
    before, path, checkpoint = load_or_start(
        table.args.out, name, settings, table.args.resume, accuracy.DEFAULTS, REQUIRED
    )
    if before:
        return before
    print(f"{cell}, seed {seed}: {table.split.name}, {table.epochs} epochs, {settings['protocol']}")
    record = {**settings, **environment(table.device)}
    try:
        trained = [_member(table, cell, seed * members + i, checkpoint, i) for i in range(members)]
        draws = 1 if cell.row.scheme == "none" else -(-table.args.num_samples // members)
        scores, numbers = evaluate(trained, draws, table.split, ood)
        _write_scores(path, scores)
        record |= {**numbers, "seconds": sum(row["seconds"] for one in trained for row in one.history)}
        record |= {"history": [one.history for one in trained], "diverged": False}
    except NonFiniteError as error:
        print(f"diverged: {error}")
        record |= {**dict.fromkeys(NUMBERS), "seconds": None, "diverged": str(error)}
    write_record(path, record)
    return record


def _member(table: Table, cell: Cell, seed: int, checkpoint: Path, number: int) -> Posterior:
    net = initial_net(cell.make, table.split, seed, table.device)
    pair = make_pair(net, cell.row.scheme, table.split, cell.row.sites, **cell.row.options)
    return accuracy.train(table, cell.row, pair, seed, checkpoint.with_name(f"{checkpoint.name}-{number}"))


def evaluate(
    members: Sequence[Posterior], draws: int, split: DataSplits, ood: dict[str, DataSplits]
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
    mean = None  # an ensemble has none
    if len(members) == 1:
        mean = quality(metrics.compute_logits(members[0].mean(), split.test)[None], labels)
    numbers = {
        "mean": mean,
        "draws": quality(logits, labels),
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


def load_ood_datasets(args: Args, network: nn.Module) -> dict[str, DataSplits]:
    """Loads the out-of-distribution datasets in the network's input shape; prints which ones cannot be loaded."""
    found = {}
    for name in args.ood_datasets:
        try:
            found[name] = load_data(name, network, args.data)
        except DataError as error:
            print(f"out of distribution: without {name}: {error}")
    return found


def log_scores(records: Sequence[Record], folder: Path) -> dict[str, Tensor]:
    """File of a record -> log scores of the test examples, for runs that have stored them."""
    paths = {record["file"]: _scores_path(folder / record["file"]) for record in records}
    return {
        file: torch.from_numpy(np.load(path)["log_score"]).double() for file, path in paths.items() if path.is_file()
    }


def _scores_path(path: Path) -> Path:
    return path.with_suffix(".npz")


def _write_scores(path: Path, scores: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(_scores_path(path), log_score=scores.cpu().numpy().astype(np.float16))


if __name__ == "__main__":
    cli.run(Args, main)
