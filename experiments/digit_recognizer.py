"""Compresses a network that this project did not train: the digit recognizer of a Python package, in one call.

``python -m experiments.digit_recognizer`` takes the convolutional network of ``digit-recognizer-py`` (MIT license,
390,410 parameters) with its published weights, and calls ``sparsify`` on MNIST's training images. Then it writes the
smaller network as a compact file and as C. Every seed writes one JSON record; an interrupted run resumes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pyro_vd import compress, sparsify
from pyro_vd.data import DataSplits, LabeledImages, load
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.deployment import write_compact
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.recognizer import KINDS, RecognizerSpec, load_network, make_examples
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, group_by, percent, ratio, summary
from pyro_vd.metrics import compute_logits, error_rate

STUDY = "digit_recognizer"
KEYS = ("dense_error", "test_error", "compression", "bytes_compact", "error_compact", "table_bytes", "seconds")


@dataclass(frozen=True)
class Args(cli.Setup):
    """Sparsifies the network with every seed, and prints the table."""

    scheme: str = "sparse"
    epochs: int = 7
    batch_size: int = 250
    lr: float = 1e-3
    validation: int = 0
    """Hold out so many training images, and measure on them instead of the test images."""
    seeds: int = 3
    out: Path = Path("runs/digit_recognizer")
    """Folder of records, checkpoints, networks and table."""


def main(args: Args) -> None:
    cli.check_counts(args, "seeds", "epochs", "batch_size")
    device = cli.begin(args)
    store = Store(args.out, KINDS)
    data = load("mnist", args.data)
    for spec in store.unfinished(make_specs(args), KEYS, args.resume, data.sha256):
        print(f"{spec.label}, seed {spec.seed}")
        facts = {"experiment": STUDY, "data_sha256": data.sha256, **environment(device)}
        store.save(spec, {**facts, **run(spec, data, args, store.path(spec), device)})
    publish([make_table(store)], args.out)


def make_specs(args: Args) -> list[RecognizerSpec]:
    """One for each seed."""
    fields = {name: getattr(args, name) for name in ("scheme", "epochs", "batch_size", "lr", "validation")}
    return [RecognizerSpec(**fields, seed=seed) for seed in range(args.seeds)]


def run(spec: RecognizerSpec, data: DataSplits, args: Args, path: Path, device: torch.device) -> dict[str, Any]:
    """Sparsifies, measures, and writes the smaller network beside the record."""
    (x, y), held = make_examples(spec, data)
    test = LabeledImages(*held)
    net = load_network()
    dense_error = error_rate(compute_logits(net, test), test.labels)
    start = time.monotonic()
    small, _, report = sparsify(
        net.to(device), (x.to(device), y.to(device)), spec.scheme, epochs=spec.epochs, batch_size=spec.batch_size,
        lr=spec.lr, seed=spec.seed, engine=args.engine, checkpoint=args.out / "checkpoints" / path.stem,
    )  # fmt: skip
    seconds = time.monotonic() - start
    small = small.cpu().eval()
    with tempfile.TemporaryDirectory() as folder:
        table_bytes = compress.to_c(small, x[:64], Path(folder) / "network.c").table_bytes
    return {
        "dense_error": dense_error,
        "test_error": error_rate(compute_logits(small, test), test.labels),
        "weights": report.weights,
        "nonzero": report.nonzero,
        "compression": report.weights / report.nonzero,
        "bytes_dense": compress.dense_bytes(net),
        **write_compact(small, x, test, path.with_suffix(".pvd")),
        "table_bytes": table_bytes,
        "seconds": seconds,
    }


def make_table(store: Store) -> Table:
    """Means ± standard deviations over seeds, a row for each group of equal runs."""
    runs = store.runs(KEYS)
    groups = group_by(runs, lambda run: replace(run.spec, seed=0))
    rows = [_make_row(spec, same) for spec, same in groups.items()]
    header = ("scheme", "error %", "compression", "file, bytes", "its error %", "C, bytes", "minutes", "n")
    return Table(f"Error of the dense network: {percent(run['dense_error'] for run in runs)} %", header, tuple(rows))


def _make_row(spec: RecognizerSpec, runs: Sequence[Run]) -> tuple[str, ...]:
    held = f", {spec.validation:,} validation images" if spec.validation else ""
    return (
        f"`{spec.scheme}`, {spec.epochs} epochs{held}",
        percent(run["test_error"] for run in runs),
        ratio([run["compression"] for run in runs]),
        summary([run["bytes_compact"] for run in runs], "{:,.0f}"),
        percent(run["error_compact"] for run in runs),
        summary([run["table_bytes"] for run in runs], "{:,.0f}"),
        summary([run["seconds"] / 60 for run in runs], "{:.1f}"),
        str(len(runs)),
    )


if __name__ == "__main__":
    cli.run(Args, main)
