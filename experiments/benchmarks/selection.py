"""Gathering the inputs that a linear layer reads against multiplying by zeros, layer by layer.

``python -m experiments.benchmarks.selection`` times a layer on k of n inputs (:class:`pyro_vd.compress.SelectedLinear`)
and the same layer on all of them, in onnxruntime and in PyTorch, in turns of one run. The ratio depends on the number
of saved multiplications per gathered input, (n - k) * outputs / k; the constants of pyro_vd.compress.gather are read
off the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vd.compress import SelectedLinear
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import Step
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.records import Record, environment, hardware, write_record
from pyro_vd.experiments.common.tables import to_markdown

REQUIRED = ("benchmark", "batch", "rounds", "layers", "device", "threads", "torch", "revision")
RUNTIMES = ("onnxruntime", "PyTorch")


@dataclass(frozen=True)
class Args:
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
    out: Path = Path("experiments/benchmarks/results/selection")


def main(args: Args) -> None:
    cli.needs_onnx()
    if args.rounds < 2 or min(args.batch, args.threads, *args.inputs, *args.outputs) < 1:
        raise UserError("--rounds must be at least 2, and sizes and --threads at least 1")
    if not all(0 < share < 1 for share in args.kept):
        raise UserError("--kept must be above 0 and below 1")
    torch.set_num_threads(args.threads)
    sizes = itertools.product(args.inputs, args.outputs, args.kept)
    record = {
        "benchmark": "selection",
        "batch": args.batch,
        "rounds": args.rounds,
        "layers": [measure(args, n, max(1, round(n * share)), outputs) for n, outputs, share in sizes],
        **environment(torch.device("cpu")),
    }
    path = args.out / f"batch={args.batch}.json"
    write_record(path, record)
    print(f"\n{hardware(record)}, batch {args.batch}:\n\n{to_markdown(selection_table(record))}\n\n{path}")


@torch.no_grad()
def measure(args: Args, n: int, k: int, outputs: int) -> Record:
    """Milliseconds of the layer on ``k`` of ``n`` inputs and on all of them, by runtime."""
    from pyro_vd.experiments.benchmarks import onnx_forms  # an extra: tables of records are made without it

    selected = torch.randperm(n)[:k].sort().values
    x = torch.randn(args.batch, n)
    steps: dict[str, Step] = {}
    for name, net in {"zeros": nn.Linear(n, outputs), "gathered": SelectedLinear(selected, outputs)}.items():
        steps[f"PyTorch, {name}"] = partial(_step, net)
        steps[f"onnxruntime, {name}"] = partial(_step, onnx_forms.to_onnxruntime_as_is(net, args.threads, x[:2]))
    times = timing.interleaved(steps, partial(_same, x), args.rounds, args.turn, most=2000)
    return {
        "inputs": n,
        "read": k,
        "outputs": outputs,
        "minimum_ms": {name: min(values) for name, values in times.items()},
        "median_ms": {name: float(torch.tensor(values).median()) for name, values in times.items()},
    }


def selection_table(record: Record) -> list[tuple[str, ...]]:
    """How many times as long gathering takes, by multiplications saved per gathered input, header first."""
    columns = [f"{runtime}, {what}" for runtime in RUNTIMES for what in ("minimum", "median")]
    header = ("multiplications saved per gathered input", "inputs", "read", "outputs", *columns)
    layers = sorted(record["layers"], key=_saved_per_input)
    return [header, *(_row(layer) for layer in layers)]


def _row(layer: Record) -> tuple[str, ...]:
    ratios = [
        f"{layer[what][f'{runtime}, gathered'] / layer[what][f'{runtime}, zeros']:.2f}"
        for runtime in RUNTIMES
        for what in ("minimum_ms", "median_ms")
    ]
    return (f"{_saved_per_input(layer):.0f}", *(f"{layer[size]:,}" for size in ("inputs", "read", "outputs")), *ratios)


def _saved_per_input(layer: Record) -> float:
    return (layer["inputs"] - layer["read"]) * layer["outputs"] / layer["read"]


def _step(run: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> object:
    return run(x)


def _same(x: Tensor) -> tuple[Tensor, Tensor]:
    return x, x


if __name__ == "__main__":
    cli.run(Args, main)
