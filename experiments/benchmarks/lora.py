"""A training step with noise on the ranks of an adapter beside one of plain LoRA, timed side by side.

``python -m experiments.benchmarks.lora --threads 1`` times steps on random messages of 32 tokens and writes
experiments/benchmarks/results/lora/minilm-<device>.json. It needs the extra ``minilm``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import Step
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.environment import environment, hardware
from pyro_vd.experiments.common.lora_rows import FULL, PRUNED, RANKS, make_rows
from pyro_vd.experiments.common.lora_runs import LoraSpec, make_classifier, make_lora_pair
from pyro_vd.experiments.common.minilm import Pretrained, load_minilm
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import Table
from pyro_vd.inference.engine import EagerStep, Objective
from pyro_vd.process_state import flush_denormals

PLAIN = "plain LoRA"
NUM_DATA = 2_000  # messages
REQUIRED = ("benchmark", "rank", "length", "batch_size", "rounds", "columns", "device", "threads", "revision")


@dataclass(frozen=True, kw_only=True)
class Args(timing.Turns):
    """Times one training step side by side."""

    device: str = "auto"
    batch_size: int = 32
    out: Path = Path("experiments/benchmarks/results/lora")


def main(args: Args) -> None:
    timing.check(args, batch_size=args.batch_size)
    device = cli.device_of(args.device)
    cli.check_folder(args.out)
    record = measure(args, load_minilm(), device)
    timing.publish({timing.name_stem(args.out, f"minilm-{device.type}", args.threads): record}, make_tables)


@flush_denormals()  # as fit does
def measure(args: Args, pretrained: Pretrained, device: torch.device) -> Record:
    """Times a step of every row from rank 16, and of plain LoRA of that rank."""
    made = make_rows()
    plain, rows = made[FULL.format(RANKS[-1])], {name: made[name] for name in PRUNED}
    steps: dict[str, Step] = {PLAIN: _plain_step(plain, pretrained, device)}
    steps |= {name: _our_step(spec, pretrained, device) for name, spec in rows.items()}
    generator = torch.Generator().manual_seed(0)
    vocabulary = pretrained.encoder.get_input_embeddings().num_embeddings  # type: ignore[operator]

    def batch() -> tuple[Tensor, Tensor]:
        ids = torch.randint(1, vocabulary, (args.batch_size, plain.length), generator=generator)
        return ids.to(device), torch.randint(2, (args.batch_size,), generator=generator).to(device)

    times = timing.interleaved(steps, batch, args.rounds, args.turn, most=20)
    columns = {
        name: timing.summarize(values) | {"times_plain_interval": timing.ratio_interval(values, times[PLAIN])}
        for name, values in times.items()
    }
    for numbers in columns.values():
        numbers["times_plain"] = numbers["median_ms"] / columns[PLAIN]["median_ms"]
    facts = {"rank": plain.rank, "length": plain.length, "batch_size": args.batch_size, "rounds": args.rounds}
    return {"benchmark": "lora", **facts, "columns": columns, **environment(device)}


def _plain_step(spec: LoraSpec, pretrained: Pretrained, device: torch.device) -> Step:
    """A step as in PEFT's documentation: cross entropy, and Adam on what requires a gradient."""
    net = make_classifier(spec, pretrained).to(device)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], spec.fit.training.lr, fused=True)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def _our_step(spec: LoraSpec, pretrained: Pretrained, device: torch.device) -> Step:
    pair = make_lora_pair(spec, pretrained, NUM_DATA, device)
    eager = EagerStep(Objective(pair.model, pair.guide), spec.fit.training.lr)
    beta = torch.tensor(1.0, device=device)
    return lambda x, y: eager.step(x, y, beta)


def make_tables(records: Sequence[Record]) -> list[Table]:
    """One table per record."""
    return [_make_table(record) for record in records]


def _make_table(record: Record) -> Table:
    rows = [
        (
            name,
            f"{numbers['median_ms']:.0f}",
            "{:.0f} to {:.0f}".format(*numbers["interval_ms"]),
            f"{numbers['times_plain']:.3f}",
            "{:.3f} to {:.3f}".format(*numbers["times_plain_interval"]),
        )
        for name, numbers in record["columns"].items()
    ]
    title = (
        f"A step of MiniLM with rank {record['rank']}, {record['batch_size']} messages of {record['length']} tokens "
        f"({hardware(record)})"
    )
    return Table(title, ("row", "ms", "95 %", "/ plain LoRA", "95 %"), tuple(rows))


if __name__ == "__main__":
    cli.run(Args, main)
