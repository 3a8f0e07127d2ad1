"""One training step of sparse variational dropout, ours and others, timed side by side in one run.

``python -m experiments.benchmarks.step`` times every column of benchmarks.columns for every network, prints a table
each and writes experiments/benchmarks/results/step-<network>-<device>.json. A turn is a few steps of one column. Every
round has the turns in a new order, and intervals are bootstrapped over rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import pictures, timing
from pyro_vd.experiments.benchmarks.columns import EAGER, FLOOR, OURS, Step, columns_on
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.records import Record, environment, hardware, write_record
from pyro_vd.experiments.common.tables import to_markdown
from pyro_vd.experiments.common.training import initial_net, load_data
from pyro_vd.models import NETWORKS

NETWORK_NAMES = ("lenet300", "lenet5", "cifar_cnn", "vgg")
REQUIRED = ("benchmark", "network", "dataset", "batch_size", "rounds", "columns", "device", "threads", "revision")


@dataclass(frozen=True)
class Args:
    """Times one training step side by side."""

    network: tuple[str, ...] = ("lenet300", "lenet5", "cifar_cnn")
    """lenet300, LeNet5, cifar_cnn or vgg; the last takes seconds per step on a CPU."""
    dataset: str = "auto"
    data: Path | None = None
    device: str = "auto"
    batch_size: int = 100
    rounds: int = 30
    """Turns of every column; medians over turns are reported."""
    turn: float = 0.2
    """Approximate seconds per turn."""
    most: int = 20
    """Largest number of steps per turn."""
    warm_up: float = 3.0
    """Seconds of steps before timing, so that the network has begun to prune, as in most of a run."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""
    out: Path = Path("experiments/benchmarks/results")


def main(args: Args) -> None:
    for name in args.network:
        cli.nearest("network", name, NETWORK_NAMES)
    if args.rounds < 2 or min(args.batch_size, args.most) < 1 or args.threads < 0:
        raise UserError("--rounds must be at least 2, --batch-size and --most at least 1, --threads at least 0")
    if not (0 <= args.turn < math.inf and 0 <= args.warm_up < math.inf):
        raise UserError("--turn and --warm-up must be at least 0 and finite: seconds")
    cli.set_threads(args.threads)
    device = cli.device_of(args.device)
    cli.check_folder(args.out)
    for name in args.network:
        one_network(args, name, load_step_data(args, name).to(device), device)


def load_step_data(args: Args, name: str) -> DataSplits:
    """Loads the dataset of the network, on the host."""
    return load_data(args.dataset, NETWORKS[name](), args.data, "mnist" if name.startswith("lenet") else "cifar10")


def one_network(args: Args, name: str, split: DataSplits, device: torch.device) -> None:
    """Measures one network, prints its table, and writes its record and picture."""
    record = measure(args, name, split, device)
    stem = f"step-{name}-{device.type}" + (f"-{args.threads}-threads" if args.threads else "")
    write_record(args.out / f"{stem}.json", record)
    print(f"\n{title(record)}\n{to_markdown(step_table(record))}\n")
    pictures.draw_step(record, title(record), args.out / f"{stem}.png")
    print(f"{args.out / stem}.json and .png")


def measure(args: Args, name: str, split: DataSplits, device: torch.device) -> Record:
    """Measures every column of one network."""
    torch.set_flush_denormal(True)  # for every column, as fit does for ours
    torch.compiler.config.force_disable_caches = True  # compile seconds are those of a first run
    make = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)

    def batch():
        return split.train.batch(torch.randint(len(split.train), (args.batch_size,), generator=generator).to(device))

    steps: dict[str, Step] = {}
    columns: dict[str, Record] = {}
    for column, build in tqdm(columns_on(device).items(), desc=f"{name}: first steps"):
        steps[column] = build(initial_net(make, split, 0, device).train(), len(split.train), batch()[0])
        columns[column] = {"first_step_s": timing.first_step(steps[column], batch)}
    timing.interleaved(steps, batch, rounds=1, turn=args.warm_up, most=200)
    times = timing.interleaved(steps, batch, args.rounds, args.turn, args.most)
    for column, values in times.items():
        columns[column] |= {
            "median_ms": float(torch.tensor(values).median()),
            "interval_ms": timing.median_interval(values),
            "times_ours": float(torch.tensor(values).median() / torch.tensor(times[OURS]).median()),
            "times_ours_interval": timing.ratio_interval(values, times[OURS]),
            "peak_bytes": timing.peak_bytes(steps[column], batch()),
        }
    return {
        "benchmark": "step",
        "network": name,
        "dataset": split.name,
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "weights": sum(p.numel() for p in make().parameters() if p.ndim > 1),
        "columns": columns,
        **environment(device),
    }


def title(record: Record) -> str:
    """One line that says what was measured and where."""
    return f"{record['network']}, {record['weights']:,} weights, batch {record['batch_size']}, {hardware(record)}"


def step_table(record: Record) -> list[tuple[str, ...]]:
    """One row per column: times, ratios, memory, and the time of the first step."""
    header = ("step", "ms", "95 %", "/ ours, compiled", "95 %", "/ products", "peak MiB", "first step, s")
    columns = record["columns"]
    floor = columns[FLOOR]["median_ms"]
    rows = [
        (
            name,
            f"{c['median_ms']:.2f}",
            "{:.2f} to {:.2f}".format(*c["interval_ms"]),
            f"{c['times_ours']:.2f}",
            "{:.2f} to {:.2f}".format(*c["times_ours_interval"]),
            f"{c['median_ms'] / floor:.2f}",
            f"{c['peak_bytes'] / 2**20:.1f}",
            f"{c['first_step_s']:.1f}",
        )
        for name, c in columns.items()
    ]
    return [header, *rows]


def break_even(record: Record) -> int:
    """Steps after which a compiled run, with its compilation, is as fast as an eager one."""
    ours, eager = record["columns"][OURS], record["columns"][EAGER]
    return round(1e3 * (ours["first_step_s"] - eager["first_step_s"]) / (eager["median_ms"] - ours["median_ms"]))


def step_tables(records: Iterable[Record]) -> str:
    """The tables of several records under their titles, as Markdown; small networks and many threads first."""
    parts = []
    for record in sorted(records, key=lambda record: (NETWORK_NAMES.index(record["network"]), -record["threads"])):
        pays = f"Compiling has paid after {break_even(record):,} steps."
        parts.append(f"{title(record)}. {pays}\n\n{to_markdown(step_table(record))}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    cli.run(Args, main)
