"""Timing side by side: every round has the turns of all columns in a new order, so that other load affects all."""

from __future__ import annotations

import gc
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from tqdm import trange

from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks.columns import Step
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.publish import show
from pyro_vd.experiments.common.records import Record, write_record
from pyro_vd.experiments.common.tables import Table

__all__ = ["Batch", "Turns", "check", "first_step", "forward", "interleaved", "median_interval", "name_stem",
           "peak_bytes", "publish", "ratio_interval", "summarize"]  # fmt: skip

Batch = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Arguments of every benchmark that times."""

    rounds: int = 30
    """Turns of every column; medians over turns are reported."""
    turn: float = 0.2
    """Approximate seconds per turn."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""


def check(args: Turns, **sizes: int) -> None:
    """Checks the arguments and sets the number of threads.

    Args:
        sizes: further numbers by name, which must be at least 1.

    Raises:
        UserError: for a number out of range.
    """
    if args.rounds < 2:
        raise UserError("--rounds must be at least 2")
    if not 0 <= args.turn < math.inf:
        raise UserError("--turn must be at least 0 and finite: seconds")
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")
    cli.set_threads(args.threads)


def name_stem(folder: Path, name: str, threads: int) -> Path:
    """The path of a record and its picture without their suffix; names the number of threads if it was given."""
    return folder / (name + (f"-{threads}-threads" if threads else ""))


def publish(
    records: Mapping[Path, Record],
    make_tables: Callable[[list[Record]], list[Table]],
    draw: Callable[[Record, Path], None] | None = None,
) -> None:
    """Writes the records, draws a picture beside each, and prints their tables.

    Args:
        records: path without suffix -> record.
        make_tables: from these records.
        draw: draws a record to a path; None for no picture.
    """
    for stem, record in records.items():
        write_record(stem.with_name(f"{stem.name}.json"), record)
        if draw:
            draw(record, stem.with_name(f"{stem.name}.png"))
    show(make_tables(list(records.values())))
    suffixes = ".json and .png" if draw else ".json"
    print("", *(f"written: {stem}{suffixes}" for stem in records), sep="\n")


def first_step(step: Step, batch: Batch) -> float:
    """Seconds of the first step, which includes compilation."""
    return _timed(step, [batch()])


def forward(run: Callable[[Tensor], Tensor]) -> Step:
    """The step that runs the network on the inputs of a batch."""
    return lambda x, y: run(x)


def interleaved(
    steps: dict[str, Step], batch: Batch, rounds: int, turn: float, most: int, seed: int = 0
) -> dict[str, list[float]]:
    """Milliseconds per step by column, one number per round.

    Args:
        turn: approximate seconds of steps per column and round, with at least one step and at most ``most``. Several
            steps in a row have the caches and allocator of a training run, not those of another column.
    """
    lengths = {}
    for name, step in steps.items():
        _timed(step, [batch()])
        seconds = min(_timed(step, [batch()]) for _ in range(3))
        lengths[name] = max(1, min(most, round(turn / seconds)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    generator = np.random.default_rng(seed)
    gc.collect()
    for _ in trange(rounds, desc="rounds"):
        for name in generator.permutation(list(steps)):
            length = lengths[name]
            times[name].append(1e3 * _timed(steps[name], [batch() for _ in range(length)]) / length)
    return times


def summarize(values: list[float]) -> Record:
    """The median and its interval, as entries of a record."""
    return {"median_ms": statistics.median(values), "interval_ms": median_interval(values)}


def median_interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    return _interval(np.median, values)


def ratio_interval(values: list[float], others: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio of the medians, resampled by rounds."""
    return _interval(lambda a, b, axis: np.median(a, axis=axis) / np.median(b, axis=axis), values, others)


def _interval(statistic: Callable, *samples: list[float]) -> tuple[float, float]:
    # Percentiles: the acceleration of BCa is a jackknife, which a median does not have.
    arrays = tuple(np.array(sample) for sample in samples)
    result = stats.bootstrap(arrays, statistic, paired=True, vectorized=True, rng=0, method="percentile")
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def peak_bytes(step: Step, batch: tuple[Tensor, Tensor]) -> int:
    """Peak memory of one step, above the memory at its start."""
    if batch[0].is_cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(*batch)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step(*batch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"]
    return int(max(np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])]), default=0))


def _timed(step: Step, batches: list[tuple[Tensor, Tensor]]) -> float:
    cuda = batches[0][0].is_cuda
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for x, y in batches:
        step(x, y)
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
