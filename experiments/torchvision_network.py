"""Compresses an architecture of torchvision that was trained on Fashion-MNIST, in one call.

``python -m experiments.torchvision_network`` trains ShuffleNet V2 x0.5 without noise, calls ``sparsify`` on it with the
same images, and writes the smaller network as a compact file. Every seed writes one JSON record; an interrupted run
resumes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from pyro_vd import Categorical, fit, lift, schedules, sparsify
from pyro_vd.compress import count_multiplications, dense_bytes
from pyro_vd.data import DataSplits, LabeledImages
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.deployment import NUM_ROUNDED, write_compact
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.phases import measure_error
from pyro_vd.experiments.common.publish import publish
from pyro_vd.experiments.common.spec import KINDS as SPEC_KINDS
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table, group_by, percent, ratio, summary
from pyro_vd.guides import none

STUDY = "torchvision_network"
NETWORK, DATASET = "shufflenet_v2_x0_5", "fashion_mnist"
KEYS = ("dense_error", "test_error", "compression", "multiplications", "bytes_compact", "error_compact", "seconds")


@dataclass(frozen=True)
class Args(cli.Setup):
    """Trains the network, sparsifies it with every seed, and prints the table."""

    dense_epochs: int = 15
    """Epochs without noise."""
    epochs: int = 15
    """Epochs of ``sparsify``."""
    batch_size: int = 100
    lr: float = 1e-3
    kl_weight: float = 1.0
    """Weight of the KL after its warm-up."""
    validation: int = 0
    """Hold out so many training images, and measure on them instead of the test images."""
    seeds: int = 3
    out: Path = Path("runs/torchvision_network")
    """Folder of records, checkpoints, networks and table."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A run; the fields are those of the arguments."""

    data: Data
    dense_epochs: int
    epochs: int
    batch_size: int
    lr: float
    kl_weight: float
    network: str = NETWORK
    scheme: str = "sparse"
    seed: int = 0

    @property
    def label(self) -> str:
        """A short name for files."""
        return f"{self.data.name}-{self.network}-{self.scheme}"


KINDS = {**SPEC_KINDS, NetworkSpec.__name__: NetworkSpec}


def main(args: Args) -> None:
    cli.check_counts(args, "seeds", "dense_epochs", "epochs", "batch_size")
    device = cli.begin(args)
    store, spec = Store(args.out, KINDS), make_spec(args)
    split = load_images(spec.data, make_network(spec), args.data).to(device)
    specs = [replace(spec, seed=seed) for seed in range(args.seeds)]
    for one in store.unfinished(specs, KEYS, args.resume, split.sha256):
        print(f"{one.label}, seed {one.seed}")
        facts = {"experiment": STUDY, "dataset": split.name, "data_sha256": split.sha256, **environment(device)}
        store.save(one, {**facts, **run(one, split, args, store.path(one))})
    publish([make_table(store)], args.out)


def make_spec(args: Args) -> NetworkSpec:
    """The run of seed 0."""
    fields = {name: getattr(args, name) for name in ("dense_epochs", "epochs", "batch_size", "lr", "kl_weight")}
    return NetworkSpec(data=Data(name=DATASET, validation=args.validation, shift=1), **fields)


def make_network(spec: NetworkSpec) -> nn.Module:
    """The architecture for gray images and ten classes, with new weights."""
    torch.manual_seed(spec.seed)
    net: nn.Module = torchvision.models.get_model(spec.network, num_classes=10)
    name, first = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    gray = nn.Conv2d(1, first.out_channels, first.kernel_size, first.stride, first.padding)  # type: ignore[arg-type]
    net.set_submodule(name, gray)
    return net


def run(spec: NetworkSpec, split: DataSplits, args: Args, path: Path) -> dict[str, Any]:
    """Trains, sparsifies, measures, and writes the smaller network beside the record."""
    checkpoints = args.out / "checkpoints" / path.stem
    dense = train(spec, split, args, checkpoints / "dense")
    start = time.monotonic()
    ramp = schedules.WarmUp(0, max(1, spec.epochs // 2), weight=spec.kl_weight)
    small, _, report = sparsify(
        dense, split.train, spec.scheme, epochs=spec.epochs, batch_size=spec.batch_size, lr=spec.lr, kl_schedule=ramp,
        seed=spec.seed, engine=args.engine, checkpoint=checkpoints / "sparse",
    )  # fmt: skip
    seconds = time.monotonic() - start
    dense, small, split = dense.cpu().eval(), small.cpu().eval(), split.to("cpu")
    inputs, _ = LabeledImages(split.train.images, split.train.labels).batch(
        torch.arange(min(NUM_ROUNDED, len(split.train)))
    )
    return {
        "dense_error": measure_error(dense, split.test),
        "test_error": measure_error(small, split.test),
        "weights": report.weights,
        "nonzero": report.nonzero,
        "compression": report.weights / report.nonzero,
        "multiplications": count_multiplications(dense, inputs[:1]) / count_multiplications(small, inputs[:1]),
        **write_compact(small, inputs, split.test, path.with_suffix(".pvd")),
        "bytes_dense": dense_bytes(dense),
        "seconds": seconds,
    }


def train(spec: NetworkSpec, split: DataSplits, args: Args, checkpoint: Path) -> nn.Module:
    """The network trained without noise, at a rate that falls to 0 in the second half."""
    model = lift(make_network(spec).to(split.train.labels.device), none.prior, Categorical, len(split.train))
    schedule = schedules.HoldThenDecay(spec.dense_epochs // 2, spec.dense_epochs)
    return fit(
        model, none.Guide(model), split.train, epochs=spec.dense_epochs, batch_size=spec.batch_size, lr=spec.lr,
        lr_schedule=schedule, seed=spec.seed, engine=args.engine, checkpoint=checkpoint,
    ).mean()  # fmt: skip


def make_table(store: Store) -> Table:
    """Means ± standard deviations over seeds, a row for each group of equal runs."""
    groups = group_by(store.runs(KEYS), lambda run: replace(run.spec, seed=0))
    header = ("KL", "dense %", "error %", "compression", "mult.", "file, bytes", "its error %", "minutes", "n")
    return Table(f"{NETWORK}, {DATASET}", header, tuple(_make_row(spec, runs) for spec, runs in groups.items()))


def _make_row(spec: NetworkSpec, runs: Sequence[Run]) -> tuple[str, ...]:
    held = ", held out" if spec.data.validation else ""
    return (
        f"{spec.kl_weight:g}{held}",
        percent(run["dense_error"] for run in runs),
        percent(run["test_error"] for run in runs),
        ratio([run["compression"] for run in runs]),
        ratio([run["multiplications"] for run in runs]),
        summary([run["bytes_compact"] for run in runs], "{:,.0f}"),
        percent(run["error_compact"] for run in runs),
        summary([run["seconds"] / 60 for run in runs], "{:.0f}"),
        str(len(runs)),
    )


if __name__ == "__main__":
    cli.run(Args, main)
