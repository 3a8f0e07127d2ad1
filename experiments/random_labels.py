"""Fitting shuffled labels (Zhang et al. 2017; Molchanov et al. 2017, section 4.5).

``python -m experiments.random_labels`` trains LeNet-300-100 on 5,000 MNIST images with a growing share of shuffled
labels, and, with all labels shuffled, under growing weights of the KL: without noise, with binary dropout, and with
sparse and hierarchical variational dropout. In the papers, networks without a KL memorize the labels, and sparse
variational dropout prunes all weights. Every run writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.common.accuracy import Cell, Protocol, Row, Table
from pyro_vd.experiments.common.random_labels_pictures import draw_shares, draw_weights
from pyro_vd.experiments.common.records import Record, read_records, slug
from pyro_vd.experiments.common.tables import count_runs, device_kind, group_by, publish, summary, to_markdown
from pyro_vd.experiments.common.training import load_data
from pyro_vd.models import LeNet300

EXPERIMENT = "random_labels"
PROTOCOL = Protocol("random labels", epochs=400, batch_size=100, lr=1e-3, hold=0.5, wait=0.1, ramp=0.2)
NUM_TRAIN, NUM_TEST = 5_000, 2_000
RATES = {"p": {"fc1.weight": 0.2, "fc2.weight": 0.5, "fc3.weight": 0.5}}
ROWS = (
    Row("none", "none"),
    Row("binary dropout", "bernoulli", options=RATES),
    Row("sparse", "sparse"),
    Row("hierarchical", "hierarchical"),
)
SCHEMES_WITH_KL = ("sparse", "hierarchical")
REQUIRED = (*accuracy.REQUIRED, "train_error")


@dataclass(frozen=True)
class Args(accuracy.Args):
    """Trains on true and on shuffled labels and prints which labels were memorized."""

    share: tuple[float, ...] = (0.0, 0.2, 0.5, 0.8, 1.0)
    """Shares of the training labels that are shuffled."""
    kl_weight: tuple[float, ...] = (0.001, 0.01, 0.03, 0.1, 0.3)
    """Weights of the KL besides 1 for the runs with all labels shuffled."""
    seeds: int = 1
    """Seeds 0 .. n-1 of the network, the order and the shuffling, one run each."""
    out: Path = Path("runs/random_labels")
    """Folder of records, checkpoints, tables and pictures."""


def main(args: Args) -> None:
    device = accuracy.check(args)
    _check(args)
    split = load_data(args.dataset, LeNet300(), args.data, validation=args.validation)
    split = split.subset(NUM_TRAIN, NUM_TEST).to(device)
    for seed in range(args.seeds):
        for cell, share in cells(args.share, args.kl_weight):
            if not args.row or kind(cell.row.name) in args.row:
                table = Table(EXPERIMENT, PROTOCOL, shuffle_labels(split, share, seed), device, args)
                accuracy.one_run(table, cell, seed)
    records = read_records(args.out, REQUIRED)
    text = tables(records)
    draw(records, args.out)
    publish(text, args.out, "pictures")


def draw(records: list[Record], out: Path) -> None:
    """Two pictures for every group of records."""
    for name, group in groups(records).items():
        stem = slug(name.replace(", ", "-"))
        draw_shares(group, out / f"{stem}-shares.png")
        draw_weights(group, out / f"{stem}-weights.png")


def cells(shares: tuple[float, ...], kl_weights: tuple[float, ...]) -> list[tuple[Cell, float]]:
    """Every row at every share, then the weighted rows with all labels shuffled."""
    by_share = [(Cell(row, column(share), LeNet300), share) for share in shares for row in ROWS]
    weighted = [
        dataclasses.replace(row, name=f"{row.name}, KL x {weight:g}", kl_weight=weight)
        for weight in kl_weights
        for row in ROWS
        if row.name in SCHEMES_WITH_KL
    ]
    return by_share + [(Cell(row, column(1.0), LeNet300), 1.0) for row in weighted]


def column(share: float) -> str:
    """The name of a share of shuffled labels in tables and records."""
    return f"{100 * share:g} % shuffled"


def shuffle_labels(split: DataSplits, share: float, seed: int) -> DataSplits:
    """Permutes this share of the training labels; the frequency of each label is unchanged."""
    labels = split.train.labels.clone()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))].to(labels.device)
    dealt = chosen[torch.randperm(len(chosen), generator=generator).to(labels.device)]
    labels[chosen] = split.train.labels[dealt]
    name = f"{split.name} ({column(share)})" if share else split.name
    return dataclasses.replace(split, train=LabeledImages(split.train.images, labels), name=name)


def tables(records: list[Record]) -> str:
    """For every number of epochs and device: errors and sparsity against the share of shuffled labels, then against the
    weight of the KL."""
    return "\n\n".join(f"{name}:\n\n{_tables(group)}" for name, group in groups(records).items())


def groups(records: list[Record]) -> dict[str, list[Record]]:
    """Records of comparable runs: the same images, number of epochs and device."""

    def name(record: Record) -> str:
        images = record["dataset"].removesuffix(f" ({record['column']})")
        return f"{images}, {record['epochs']} epochs, {device_kind(record)}"

    return group_by(records, name)


def kind(row: str) -> str:
    """The row without its KL weight."""
    return row.split(",")[0]


def _tables(records: list[Record]) -> str:
    plain = [record for record in records if record["kl_weight"] == 1]
    weighted = [record for record in records if record["scheme"] in SCHEMES_WITH_KL and record["column"] == column(1.0)]
    return f"{_table(plain)}\n\n{_table(weighted)}"


def _table(records: list[Record]) -> str:
    order = [row.name for row in ROWS]

    def place(record: Record) -> tuple:
        return float(record["column"].split()[0]), order.index(kind(record["row"])), record["kl_weight"]

    by_row = group_by(sorted(records, key=place), lambda r: (r["column"], kind(r["row"]), r["kl_weight"]))
    header = (
        "labels",
        "scheme",
        "KL weight",
        "training error %",
        "test error %",
        "pruned %",
        "pruned net's error %",
        "n",
    )
    return to_markdown([header, *(_row(key, group) for key, group in by_row.items())])


def _row(key: tuple, group: list[Record]) -> tuple[str, ...]:
    good = [record for record in group if not record["diverged"]]
    label, scheme, weight = key
    has_kl = scheme in SCHEMES_WITH_KL
    errors = [summary([100 * record[name] for record in good], "{:.1f}") for name in ("train_error", "test_error")]
    pruned = [
        summary([100 * record[name] for record in good], form) if has_kl else "-"
        for name, form in (("sparsity", "{:.2f}"), ("test_error_pruned", "{:.1f}"))
    ]
    return (label, scheme, f"{weight:g}" if has_kl else "-", *errors, *pruned, count_runs(group))


def _check(args: Args) -> None:
    if not args.share or not all(0 <= share <= 1 for share in args.share):
        raise UserError("--share must lie between 0 and 1")
    if not all(0 <= weight < float("inf") and weight != 1 for weight in args.kl_weight):
        raise UserError("--kl-weight must be at least 0 and finite, and not 1, which every row has already")
    for row in args.row:
        cli.nearest("row", row, [row.name for row in ROWS])


if __name__ == "__main__":
    cli.run(Args, main)
