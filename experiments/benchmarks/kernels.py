"""Time of a compiled step by kernel.

``python -m experiments.benchmarks.kernels`` profiles the compiled step of ``sparse`` and writes a record and a table to
experiments/benchmarks/results/kernels. Inductor names a loop after the operations that it fused. Profiling slows every
part, so read the shares, and only roughly; for milliseconds see ``benchmarks.step``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch._inductor import config
from torch.profiler import ProfilerActivity, profile
from tqdm import trange

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks.columns import ours
from pyro_vd.experiments.benchmarks.step import NETWORK_NAMES, load_step_data
from pyro_vd.experiments.benchmarks.step import Args as StepArgs
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.records import Record, environment, hardware, write_record
from pyro_vd.experiments.common.tables import to_markdown
from pyro_vd.experiments.common.training import initial_net
from pyro_vd.models import NETWORKS

REQUIRED = ("benchmark", "network", "dataset", "batch_size", "steps", "parts", "device", "threads", "torch", "revision")
# Part -> pattern of its events' names; the first match counts.
KINDS = {
    "matrix products and convolutions": r"mm_out|addmm|bmm|convolution|mkldnn",
    "random numbers": r"randn|normal_",
    "copies and allocation": r"copy_|empty|fill_|zero_|clone",
}
LOOP = re.compile(r"graph_\d+_cpp_fused_(.*?)_?\d*$")
SMALL = 0.01  # loops with a smaller share are counted together


@dataclass(frozen=True)
class Args:
    """Profiles one compiled training step on a CPU."""

    network: str = "lenet300"
    """lenet300, lenet5, cifar_cnn or vgg."""
    dataset: str = "auto"
    data: Path | None = None
    batch_size: int = 100
    steps: int = 200
    """Steps under the profiler, after as many without it."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""
    out: Path = Path("experiments/benchmarks/results/kernels")


def main(args: Args) -> None:
    cli.nearest("network", args.network, NETWORK_NAMES)
    if min(args.steps, args.batch_size) < 1 or args.threads < 0:
        raise UserError("--steps and --batch-size must be at least 1, --threads at least 0")
    cli.set_threads(args.threads)
    cli.check_folder(args.out)
    record = measure(args)
    stem = args.network + (f"-{args.threads}-threads" if args.threads else "")
    write_record(args.out / f"{stem}.json", record)
    print(f"\n{kernel_tables([record])}\n\n{args.out / stem}.json")


def measure(args: Args) -> Record:
    """Profiles the parts of a step, largest first."""
    torch.set_flush_denormal(True)  # as fit does
    device = torch.device("cpu")
    split = load_step_data(StepArgs(dataset=args.dataset, data=args.data), args.network)
    generator = torch.Generator().manual_seed(0)
    batch = partial(_batch, split.train, args.batch_size, generator)
    with config.patch({"cpp.enable_kernel_profile": True}):
        step = ours(
            "compiled", initial_net(NETWORKS[args.network], split, 0, device).train(), len(split.train), batch()[0]
        )
        step(*batch())
    for _ in trange(args.steps, desc="without the profiler"):
        step(*batch())
    batches = [batch() for _ in range(args.steps)]
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for x, y in batches:
            step(x, y)
    events = [(event.key, event.self_cpu_time_total / 1e3 / args.steps) for event in profiled.key_averages()]
    return {
        "benchmark": "kernels",
        "network": args.network,
        "dataset": split.name,
        "batch_size": args.batch_size,
        "steps": args.steps,
        "parts": sum_parts(events),
        **environment(device),
    }


def _batch(examples: LabeledImages, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return examples.batch(torch.randint(len(examples), (size,), generator=generator))


def sum_parts(events: Iterable[tuple[str, float]]) -> list[Record]:
    """Milliseconds per step and shares by part; loops that are not small by name."""
    events = list(events)
    total = sum(milliseconds for _, milliseconds in events)
    parts: dict[str, float] = {}
    for name, milliseconds in events:
        part = _part(name, milliseconds / total)
        parts[part] = parts.get(part, 0.0) + milliseconds
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    return [{"part": part, "ms": milliseconds, "share": milliseconds / total} for part, milliseconds in ranked]


def _part(name: str, share: float) -> str:
    loop = LOOP.match(name)
    if loop:
        return f"loop: {loop[1].replace('_', ' ').strip()}" if share >= SMALL else "small loops"
    fitting = (part for part, pattern in KINDS.items() if re.search(pattern, name))
    return next(fitting, "wrapper and profiler")


def kernel_tables(records: Iterable[Record]) -> str:
    """A table per record, under a line that says what was profiled and where."""
    return "\n\n".join(_table(record) for record in records)


def _table(record: Record) -> str:
    title = f"{record['network']}, batch {record['batch_size']}, {hardware(record)}:"
    rows = [(part["part"], f"{100 * part['share']:.1f}", f"{part['ms']:.2f}") for part in record["parts"]]
    return f"{title}\n\n{to_markdown([('part of a compiled step', '%', 'ms, profiled'), *rows])}"


if __name__ == "__main__":
    cli.run(Args, main)
