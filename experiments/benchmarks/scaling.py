"""Time of a training step against the number of weights, the batch size and the number of seeds.

``python -m experiments.benchmarks.scaling`` writes a record and a picture to experiments/benchmarks/results/scaling.
The columns of a point are timed in turns, and so are all numbers of seeds. The data are noise, on whose values no time
depends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import EAGER, FLOOR, GRAPH, HAND, OURS, Step, columns_on, ours
from pyro_vd.experiments.benchmarks.pictures import AXES, draw_scaling
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment, hardware
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import Table
from pyro_vd.models import MLP, LeNet300
from pyro_vd.process_state import flush_denormals

REQUIRED = ("benchmark", "rounds", "batch_size", "points", "device", "threads", "torch", "revision")
N = 60_000
SCALING_COLUMNS = (OURS, EAGER, GRAPH, HAND, FLOOR)


@dataclass(frozen=True, kw_only=True)
class Args(timing.Turns):
    """Times training steps of growing networks, batches and numbers of seeds."""

    weights: tuple[int, ...] = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
    """Approximate numbers of weights of a fully connected network, at --batch-size."""
    batches: tuple[int, ...] = (10, 100, 1000, 10_000)
    """Batch sizes of LeNet-300-100."""
    seeds: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of simultaneous seeds of LeNet-300-100, at --batch-size; the others are compared with 1."""
    batch_size: int = 100
    device: str = "auto"
    rounds: int = 10
    """Turns of every column; medians over turns are reported."""
    out: Path = Path("experiments/benchmarks/results/scaling")


def main(args: Args) -> None:
    if min(args.batch_size, *args.weights, *args.batches, *args.seeds) < 1:
        raise UserError("--weights, --batches, --seeds and --batch-size must be at least 1")
    if args.seeds and 1 not in args.seeds:
        raise UserError("--seeds needs 1 among them, to compare the others with")
    timing.check(args)
    device = cli.device_of(args.device)
    cli.check_folder(args.out)
    stem = timing.name_stem(args.out, device.type, args.threads)
    timing.publish({stem: measure(args, device)}, make_tables, draw_scaling)


@flush_denormals()  # as fit does
def measure(args: Args, device: torch.device) -> Record:
    """Measures every point of every axis."""
    points: list[Record] = []
    for weights in args.weights:
        make = partial(MLP, hidden=3 * (width_of(weights),))
        points += _point("weights", make, args.batch_size, args, device)
    for size in args.batches:
        points += _point("batch", LeNet300, size, args, device)
    points += _seeds(args, device)
    return {"benchmark": "scaling", "rounds": args.rounds, "batch_size": args.batch_size, "points": points,
            **environment(device)}  # fmt: skip


def width_of(weights: int) -> int:
    """Units of each of three hidden layers between 784 inputs and 10 outputs for about this many weights."""
    return max(1, round((math.sqrt(794**2 + 8 * weights) - 794) / 4))


def _point(axis: str, make: Callable[[], nn.Module], size: int, args: Args, device: torch.device) -> list[Record]:
    """Times the columns of one point, which train the same network in different ways."""
    net = make().to(device).train()
    value = size if axis == "batch" else sum(p.numel() for p in net.parameters() if p.ndim > 1)
    build = {name: column for name, column in columns_on(device).items() if name in SCALING_COLUMNS}
    x, _ = _batch(size, device)
    steps = {name: column(net, N, x) for name, column in tqdm(build.items(), desc=f"{axis} {value:,}")}
    return _timed(axis, {name: (value, name, step) for name, step in steps.items()}, size, args, device)


def _seeds(args: Args, device: torch.device) -> list[Record]:
    """Times simultaneous seeds, with the engine that has the least work on the host."""
    column, mode = (GRAPH, "cudagraph") if device.type == "cuda" else (OURS, "compiled")
    x, _ = _batch(args.batch_size, device)
    steps = {}
    for count in tqdm(args.seeds, desc="seeds"):
        step = ours(mode, LeNet300().to(device), N, x, count)  # type: ignore[arg-type]
        steps[str(count)] = (count, column, step)
    return _timed("seeds", steps, args.batch_size, args, device)


def _timed(
    axis: str, steps: dict[str, tuple[int, str, Step]], size: int, args: Args, device: torch.device
) -> list[Record]:
    """Times steps, given by key with the value on the axis and the column."""
    run = {key: step for key, (_, _, step) in steps.items()}
    times = timing.interleaved(run, partial(_batch, size, device), args.rounds, args.turn, most=20)
    return [
        {"axis": axis, "value": value, "column": column, **timing.summarize(times[key])}
        for key, (value, column, _) in steps.items()
    ]


def _batch(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.rand(size, 1, 28, 28, device=device), torch.randint(10, (size,), device=device)


def make_tables(records: Iterable[Record]) -> list[Table]:
    """A table per record and measured axis: milliseconds, and for seeds the ratio to as many single steps."""
    tables = []
    for record in records:
        tables += [_time_table(record, axis) for axis in ("weights", "batch")]
        tables.append(_seeds_table(record))
    return [table for table in tables if table.rows]


def _time_table(record: Record, axis: str) -> Table:
    points = [point for point in record["points"] if point["axis"] == axis]
    columns = list(dict.fromkeys(point["column"] for point in points))
    times = {(point["value"], point["column"]): point["median_ms"] for point in points}
    values = dict.fromkeys(point["value"] for point in points)
    rows = [(f"{value:,}", *(f"{times[value, column]:.3g}" for column in columns)) for value in values]
    return Table(f"Milliseconds per step by {AXES[axis]}, {hardware(record)}", (AXES[axis], *columns), tuple(rows))


def _seeds_table(record: Record) -> Table:
    points = [point for point in record["points"] if point["axis"] == "seeds"]
    one = next((point["median_ms"] for point in points if point["value"] == 1), math.nan)
    header = ("seeds at once", "ms", "95 %", "/ one seed", "/ as many single steps")
    rows = [
        (
            str(point["value"]),
            f"{point['median_ms']:.2f}",
            "{:.2f} to {:.2f}".format(*point["interval_ms"]),
            f"{point['median_ms'] / one:.2f}",
            f"{point['median_ms'] / one / point['value']:.2f}",
        )
        for point in points
    ]
    return Table(f"Seeds at once, {hardware(record)}", header, tuple(rows))


if __name__ == "__main__":
    cli.run(Args, main)
