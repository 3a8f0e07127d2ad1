"""One training step of sparse variational dropout, ours and others, timed side by side in one run.

``python -m experiments.benchmarks.step`` times every column of benchmarks.columns for every network, shows its tables
and writes experiments/benchmarks/results/step-<network>-<device>.json. A turn is a few steps of one column. Every
round has the turns in a new order, and intervals are bootstrapped over rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn
from tqdm import tqdm

from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import EAGER, FLOOR, OURS, Step, columns_on
from pyro_vd.experiments.benchmarks.pictures import draw_step, title_of
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.images import choose_dataset, load_images
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.tables import Table
from pyro_vd.models import NETWORKS
from pyro_vd.process_state import flush_denormals

NetworkName = Literal["lenet300", "lenet5", "cifar_cnn", "vgg"]
NETWORK_NAMES: tuple[NetworkName, ...] = get_args(NetworkName)
REQUIRED = ("benchmark", "network", "dataset", "batch_size", "rounds", "columns", "device", "threads", "revision")


@dataclass(frozen=True, kw_only=True)
class Args(timing.Turns):
    """Times one training step side by side."""

    network: tuple[NetworkName, ...] = ("lenet300", "lenet5", "cifar_cnn")
    """One or more; vgg takes seconds per step on a CPU."""
    dataset: str = "auto"
    data: Path | None = None
    device: str = "auto"
    batch_size: int = 100
    most: int = 20
    """Largest number of steps per turn."""
    warm_up: float = 3.0
    """Seconds of steps before timing, so that the network has begun to prune, as in most of a run."""
    out: Path = Path("experiments/benchmarks/results")


def main(args: Args) -> None:
    timing.check(args, batch_size=args.batch_size, most=args.most)
    if not 0 <= args.warm_up < math.inf:
        raise UserError("--warm-up must be at least 0 and finite: seconds")
    device = cli.device_of(args.device)
    cli.check_folder(args.out)
    for name in args.network:
        record = measure(args, name, load_step_data(name, args.dataset, args.data).to(device), device)
        stem = timing.name_stem(args.out, f"step-{name}-{device.type}", args.threads)
        timing.publish({stem: record}, make_tables, draw_step)


def load_step_data(name: NetworkName, dataset: str, folder: Path | None) -> DataSplits:
    """Loads the dataset of the network, on the host."""
    preferred = "mnist" if name.startswith("lenet") else "cifar10"
    return load_images(Data(name=choose_dataset(dataset, folder, preferred)), NETWORKS[name](), folder)


def make_net(name: NetworkName, split: DataSplits, device: torch.device) -> nn.Module:
    """The network in training mode, with the weights of seed 0."""
    torch.manual_seed(0)
    return NETWORKS[name](split.classes).to(device).train()


def random_batches(split: DataSplits, size: int) -> timing.Batch:
    """Draws batches of random training examples, on the device of the data."""
    generator = torch.Generator().manual_seed(0)
    count, device = len(split.train), split.train.labels.device
    return lambda: split.train.batch(torch.randint(count, (size,), generator=generator).to(device))


@flush_denormals()  # as fit does
def measure(args: Args, name: NetworkName, split: DataSplits, device: torch.device) -> Record:
    """Measures every column of one network."""
    torch.compiler.config.force_disable_caches = True  # compile seconds are those of a first run
    batch = random_batches(split, args.batch_size)
    steps: dict[str, Step] = {}
    columns: dict[str, Record] = {}
    for column, build in tqdm(columns_on(device).items(), desc=f"{name}: first steps"):
        steps[column] = build(make_net(name, split, device), len(split.train), batch()[0])
        columns[column] = {"first_step_s": timing.first_step(steps[column], batch)}
    timing.interleaved(steps, batch, rounds=1, turn=args.warm_up, most=200)
    times = timing.interleaved(steps, batch, args.rounds, args.turn, args.most)
    for column, values in times.items():
        columns[column] |= timing.summarize(values) | {
            "times_ours_interval": timing.ratio_interval(values, times[OURS]),
            "peak_bytes": timing.peak_bytes(steps[column], batch()),
        }
    for numbers in columns.values():
        numbers["times_ours"] = numbers["median_ms"] / columns[OURS]["median_ms"]
    return {
        "benchmark": "step",
        "network": name,
        "dataset": split.name,
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "weights": sum(p.numel() for p in NETWORKS[name]().parameters() if p.ndim > 1),
        "columns": columns,
        **environment(device),
    }


def make_tables(records: Sequence[Record]) -> list[Table]:
    """Two tables per record: times, and what they compare with; small networks and many threads first."""
    ranked = sorted(records, key=lambda record: (NETWORK_NAMES.index(record["network"]), -record["threads"]))
    return [table for record in ranked for table in (_time_table(record), _cost_table(record))]


def _time_table(record: Record) -> Table:
    header = ("step", "ms", "95 %", "/ ours, compiled", "95 %")
    rows = [
        (
            name,
            f"{numbers['median_ms']:.2f}",
            "{:.2f} to {:.2f}".format(*numbers["interval_ms"]),
            f"{numbers['times_ours']:.2f}",
            "{:.2f} to {:.2f}".format(*numbers["times_ours_interval"]),
        )
        for name, numbers in record["columns"].items()
    ]
    return Table(title_of(record), header, tuple(rows))


def _cost_table(record: Record) -> Table:
    floor = record["columns"][FLOOR]["median_ms"]
    rows = [
        (
            name,
            f"{numbers['median_ms'] / floor:.2f}",
            f"{numbers['peak_bytes'] / 2**20:.1f}",
            f"{numbers['first_step_s']:.1f}",
        )
        for name, numbers in record["columns"].items()
    ]
    heading = f"The same steps; compiling has paid after {break_even(record):,} steps"
    return Table(heading, ("step", "/ the products", "peak MiB", "first step, s"), tuple(rows))


def break_even(record: Record) -> int:
    """Steps after which a compiled run, with its compilation, is as fast as an eager one."""
    ours, eager = record["columns"][OURS], record["columns"][EAGER]
    return round(1e3 * (ours["first_step_s"] - eager["first_step_s"]) / (eager["median_ms"] - ours["median_ms"]))


if __name__ == "__main__":
    cli.run(Args, main)
