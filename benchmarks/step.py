"""One training step of LeNet-300-100 under sparse variational dropout, ours and hand-written, interleaved in one run.

``python -m benchmarks.step`` prints medians and ratios and writes benchmarks/results/step.json. "Hand-written" is what
public code does without a library: layers with theta, log_sigma2 and the published KL, train-time masking, fused Adam.
It checks nothing and projects nothing; ours does both.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from experiments.common import cli
from experiments.common.records import circumstances, write_record
from experiments.common.training import data_for, fresh_net, pair_of
from models import lenet300
from pyro_vd.data import Split
from pyro_vd.engine import Engine, Objective, parameter_groups

Step = Callable[[Tensor, Tensor], object]
EPOCH = 600  # steps of batch 100 over 60,000 images


@dataclass(frozen=True)
class Args:
    """Times one training step side by side."""

    dataset: str = "auto"
    data: Path | None = None
    batch_size: int = 100
    rounds: int = 40
    """Turns of every column, in another order each time; the median over turns is reported."""
    block: int = 20
    """Steps in a turn: a training run meets its own caches and allocator, not those of another column."""
    warm_up: int = 200
    """Steps before timing: the first ones compile, and a network that has begun to prune is the usual case."""
    threads: int = 0
    out: Path = Path("benchmarks/results/step.json")


class HandWritten(nn.Module):
    """LeNet-300-100 of hand-written sparse variational dropout layers; forward gives the loss."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n
        sizes = (784, 300, 100, 10)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.weights = nn.ParameterList([layer.weight for layer in layers])
        self.biases = nn.ParameterList([layer.bias for layer in layers])
        self.log_sigma2 = nn.ParameterList([torch.full_like(layer.weight, -10.0) for layer in layers])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x.flatten(1)
        kl = x.new_zeros(())
        for i, (theta, bias, log_sigma2) in enumerate(zip(self.weights, self.biases, self.log_sigma2, strict=True)):
            log_alpha = (log_sigma2 - 2 * (theta.abs() + 1e-8).log()).clamp(-10, 10)
            mean = F.linear(x, theta * (log_alpha < 3), bias)
            scale = (F.linear(x.square(), log_sigma2.exp()) + 1e-8).sqrt()
            x = mean + scale * torch.randn_like(mean)
            x = x.relu() if i < 2 else x
            kl = (
                kl + (0.5 * F.softplus(-log_alpha) - 0.63576 * (1.8732 + 1.48695 * log_alpha).sigmoid() + 0.63576).sum()
            )
        return self.n * F.cross_entropy(x, y) + kl


def main(args: Args) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    split = data_for(args.dataset, lenet300(), args.data)
    steps = columns(split)
    generator = torch.Generator().manual_seed(0)

    def batch() -> tuple[Tensor, Tensor]:
        return split.train.batch(torch.randint(len(split.train), (args.batch_size,), generator=generator))

    torch.set_flush_denormal(True)  # for every column, as fit does for ours
    for step in steps.values():
        for _ in range(args.warm_up):
            step(*batch())
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in trange(args.rounds, desc="rounds"):
        for i in torch.randperm(len(steps), generator=generator).tolist():
            name, step = list(steps.items())[i]
            batches = [batch() for _ in range(args.block)]
            start = time.perf_counter()
            for x, y in batches:
                step(x, y)
            times[name].append(1e3 * (time.perf_counter() - start) / args.block)
    report(args, split, times)


def columns(split: Split) -> dict[str, Step]:
    """Name -> step function."""
    compiled = torch.compile(HandWritten(len(split.train)), fullgraph=True)
    return {
        "ours, compiled": _ours(split, "compiled"),
        "hand-written, torch.compile": _hand_written(compiled),
        "ours, eager": _ours(split, "eager"),
        "hand-written, eager": _hand_written(HandWritten(len(split.train))),
    }


def report(args: Args, split: Split, times: dict[str, list[float]]) -> None:
    median = {name: torch.tensor(values).median().item() for name, values in times.items()}
    quartiles = {
        name: torch.tensor(values).quantile(torch.tensor([0.25, 0.75])).tolist() for name, values in times.items()
    }
    ratio = median["ours, compiled"] / median["hand-written, torch.compile"]
    for name, value in median.items():
        low, high = quartiles[name]
        print(f"{name:30s} {value:7.2f} ms a step ({low:.2f} to {high:.2f}), {value * EPOCH / 1e3:5.1f} s an epoch")
    print(f"ours, compiled / hand-written, torch.compile: {ratio:.2f}")
    record = {
        "benchmark": "step",
        "network": "lenet300",
        "dataset": split.name,
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "block": args.block,
        "median_ms": median,
        "quartiles_ms": quartiles,
        "ratio_to_hand_written_compiled": ratio,
        **circumstances(torch.device("cpu")),
    }
    write_record(args.out, record)


def _ours(split: Split, mode: str) -> Step:
    pair = pair_of(fresh_net(lenet300, split, seed=0, device=torch.device("cpu")), "sparse", split)
    objective = Objective(pair.model, pair.guide, threshold=3.0)
    engine = Engine(objective, parameter_groups(objective, 1e-3, {}), mode)  # type: ignore[arg-type]
    beta = torch.tensor(1.0)

    def step(x: Tensor, y: Tensor) -> object:
        return engine.step(x, y, beta)

    return step


def _hand_written(net: Callable[..., Tensor]) -> Step:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)  # type: ignore[attr-defined]

    def step(x: Tensor, y: Tensor) -> object:
        loss = net(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


if __name__ == "__main__":
    cli.run(Args, main)
