"""Gathering the inputs that a linear layer reads against multiplying by zeros, layer by layer.

``python -m experiments.benchmarks.selection`` times a layer on k of n inputs (:class:`pyro_vd.compress.SelectedLinear`)
and the same layer on all of them, in onnxruntime and in PyTorch, in turns of one run. The ratio depends on the number
of saved multiplications per gathered input, (n - k) * outputs / k; the constants of pyro_vd.compress.gather are read
off the table.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pyro_vd.compress import SelectedLinear
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import Step
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment, hardware
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import Table

REQUIRED = ("benchmark", "batch", "rounds", "layers", "device", "threads", "torch", "revision")
RUNTIMES = ("onnxruntime", "PyTorch")


@dataclass(frozen=True, kw_only=True)
class Args(timing.Turns):
    """Times linear layers that gather their inputs."""

    inputs: tuple[int, ...] = (256, 784, 2048)
    outputs: tuple[int, ...] = (10, 50, 150, 300)
    kept: tuple[float, ...] = (0.96, 0.5, 0.2, 0.05)
    """Shares of the inputs that are read."""
    batch: int = 256
    rounds: int = 15
    """Turns of every layer; medians and minima over turns are reported."""
    turn: float = 0.005
    """Approximate seconds per turn."""
    threads: int = 1
    """CPU threads; 0 leaves PyTorch's choice."""
    out: Path = Path("experiments/benchmarks/results/selection")


def main(args: Args) -> None:
    cli.needs_onnx()
    if not all(0 < share < 1 for share in args.kept):
        raise UserError("--kept must be above 0 and below 1")
    if min(*args.inputs, *args.outputs) < 1:
        raise UserError("--inputs and --outputs must be at least 1")
    timing.check(args, batch=args.batch)
    cli.check_folder(args.out)
    sizes = itertools.product(args.inputs, args.outputs, args.kept)
    record = {
        "benchmark": "selection",
        "batch": args.batch,
        "rounds": args.rounds,
        "layers": [measure(args, n, max(1, round(n * share)), outputs) for n, outputs, share in sizes],
        **environment(torch.device("cpu")),
    }
    timing.publish({args.out / f"batch={args.batch}": record}, make_tables)


@torch.no_grad()
def measure(args: Args, n: int, k: int, outputs: int) -> Record:
    """Milliseconds of the layer on ``k`` of ``n`` inputs and on all of them, by runtime."""
    from pyro_vd.experiments.benchmarks import onnx_forms  # an extra: tables of records are made without it

    selected = torch.randperm(n)[:k].sort().values
    x = torch.randn(args.batch, n)
    steps: dict[str, Step] = {}
    for name, net in {"zeros": nn.Linear(n, outputs), "gathered": SelectedLinear(selected, outputs)}.items():
        steps[f"PyTorch, {name}"] = timing.forward(net)
        steps[f"onnxruntime, {name}"] = timing.forward(onnx_forms.to_onnxruntime_as_is(net, args.threads, x[:2]))
    times = timing.interleaved(steps, lambda: (x, x), args.rounds, args.turn, most=2000)
    return {
        "inputs": n,
        "read": k,
        "outputs": outputs,
        "minimum_ms": {name: min(values) for name, values in times.items()},
        "median_ms": {name: statistics.median(values) for name, values in times.items()},
    }


def make_tables(records: Iterable[Record]) -> list[Table]:
    """A table per record: how many times as long gathering takes, by multiplications saved per gathered input."""
    header = ("saved", "inputs", "read", "outputs",
              *(f"{runtime}, {what}" for runtime in RUNTIMES for what in ("min", "median")))  # fmt: skip
    title = "Time with gathering / time with zeros; saved: multiplications per gathered input; batch"
    return [
        Table(
            f"{title} {record['batch']}, {hardware(record)}",
            header,
            tuple(_make_row(layer) for layer in sorted(record["layers"], key=_saved_per_input)),
        )
        for record in records
    ]


def _make_row(layer: Record) -> tuple[str, ...]:
    ratios = [
        f"{layer[what][f'{runtime}, gathered'] / layer[what][f'{runtime}, zeros']:.2f}"
        for runtime in RUNTIMES
        for what in ("minimum_ms", "median_ms")
    ]
    return (f"{_saved_per_input(layer):.0f}", *(f"{layer[size]:,}" for size in ("inputs", "read", "outputs")), *ratios)


def _saved_per_input(layer: Record) -> float:
    return (layer["inputs"] - layer["read"]) * layer["outputs"] / layer["read"]


if __name__ == "__main__":
    cli.run(Args, main)
