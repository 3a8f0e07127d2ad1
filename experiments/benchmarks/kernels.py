"""Time of a compiled step by kernel.

``python -m experiments.benchmarks.kernels`` profiles the compiled step of ``sparse``, shows a table and writes a record
to experiments/benchmarks/results/kernels. Inductor names a loop after the operations that it fused. Profiling slows
every part, so read the shares, and only roughly; for milliseconds see ``benchmarks.step``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._inductor import config
from torch.profiler import ProfilerActivity, profile
from tqdm import trange

from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import ours
from pyro_vd.experiments.benchmarks.step import NetworkName, load_step_data, make_net, random_batches
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment, hardware
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import Table
from pyro_vd.process_state import flush_denormals

REQUIRED = ("benchmark", "network", "dataset", "batch_size", "steps", "parts", "device", "threads", "torch", "revision")
# Part -> pattern of its events' names; the first match counts.
KINDS = {
    "matrix products and convolutions": r"mm_out|addmm|bmm|convolution|mkldnn",
    "random numbers": r"randn|normal_",
    "copies and allocation": r"copy_|empty|fill_|zero_|clone",
}
LOOP = re.compile(r"graph_\d+_cpp_fused_(.*?)_?\d*$")
SMALL = 0.01  # loops with a smaller share are counted together
NAME_WIDTH = 80  # characters of the longest name of a loop in the table


@dataclass(frozen=True)
class Args:
    """Profiles one compiled training step on a CPU."""

    network: NetworkName = "lenet300"
    dataset: str = "auto"
    data: Path | None = None
    batch_size: int = 100
    steps: int = 200
    """Steps under the profiler, after as many without it."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""
    out: Path = Path("experiments/benchmarks/results/kernels")


def main(args: Args) -> None:
    if min(args.steps, args.batch_size) < 1:
        raise UserError("--steps and --batch-size must be at least 1")
    cli.set_threads(args.threads)
    cli.check_folder(args.out)
    timing.publish({timing.name_stem(args.out, args.network, args.threads): measure(args)}, make_tables)


@flush_denormals()  # as fit does
def measure(args: Args) -> Record:
    """Profiles the parts of a step, largest first."""
    device = torch.device("cpu")
    split = load_step_data(args.network, args.dataset, args.data)
    batch = random_batches(split, args.batch_size)
    with config.patch({"cpp.enable_kernel_profile": True}):
        step = ours("compiled", make_net(args.network, split, device), len(split.train), batch()[0])
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


def make_tables(records: Iterable[Record]) -> list[Table]:
    """A table per record; long names of loops are cut."""
    return [_make_table(record) for record in records]


def _make_table(record: Record) -> Table:
    title = f"{record['network']}, batch {record['batch_size']}, {hardware(record)}"
    rows = [
        (
            textwrap.shorten(part["part"], NAME_WIDTH, placeholder=" ..."),
            f"{100 * part['share']:.1f}",
            f"{part['ms']:.2f}",
        )
        for part in record["parts"]
    ]
    return Table(title, ("part of a compiled step", "%", "ms, profiled"), tuple(rows))


if __name__ == "__main__":
    cli.run(Args, main)
