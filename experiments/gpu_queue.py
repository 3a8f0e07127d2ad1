"""Runs the planned cells of tables and benchmarks that have no committed record yet, within a time budget.

``python -m experiments.gpu_queue --minutes 25 --device cuda`` runs cells in order of value until the next one would
not fit, and writes records to copy into experiments/results. An interrupted cell resumes from its checkpoint when the
queue runs again with the same ``--out``. ``--list`` prints the missing cells and runs nothing.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from functools import partial

from pyro_vd.errors import UserError
from pyro_vd.experiments import ablation, cifar_accuracy, mnist_accuracy, uncertainty
from pyro_vd.experiments.benchmarks import step
from pyro_vd.experiments.common import accuracy, cli
from pyro_vd.experiments.jobs import (
    AblationRun,
    Accuracy,
    Baseline,
    Benchmark,
    Compress,
    CompressCifar,
    CudaTests,
    Job,
    Scaling,
    Uncertain,
    Where,
)


@dataclass(frozen=True)
class Args(Where):
    """Runs missing cells within a time budget."""

    minutes: float = 25.0
    """Stop before a cell that would not fit, estimated by the longest one of its kind so far."""
    list: bool = False
    """Print the missing cells and stop."""


def _cifar(protocol: accuracy.Protocol, scale: float, seeds: int) -> list[Job]:
    cells = cifar_accuracy.cells(protocol, scale)
    job = partial(Accuracy, cifar_accuracy.EXPERIMENT, protocol)
    return [job(cell, seed) for seed in range(seeds) for cell in cells]


def _figure(*hidden: int, seeds: int) -> list[Job]:
    job = partial(Accuracy, mnist_accuracy.EXPERIMENT, mnist_accuracy.PROTOCOL)
    return [job(cell, seed) for seed in range(seeds) for cell in mnist_accuracy.cells(hidden)]


def _vgg(augment: bool) -> list[Job]:
    return [CompressCifar(scale, scheme, 0, augment) for scheme in ("sparse", "none") for scale in (0.25, 0.5, 1.0)]


def _uncertainty(network: str, seeds: int) -> list[Job]:
    return [Uncertain(cell, seed) for seed in range(seeds) for cell in uncertainty.cells(network)]


def _baselines(network: str, sparsity: float, seeds: int, **training: int) -> list[Job]:
    runs = [(method, lr, seed) for seed in range(seeds) for method, lr in BEST_RATES.items()]
    return [Baseline(network, method, sparsity, seed, lr=lr, **training) for method, lr, seed in runs]


PUBLISHED_CHANGES = {"protocol": "headline", "noise_lr": 0.3, "hold": 0.5}  # LeNet-5 on images that are not shifted
BEST_RATES = {"magnitude": 1e-3, "lottery": 2e-3}  # of experiments.tuning
UNIT_SCHEMES = ("group_normal_jeffreys", "group_horseshoe", "structured_log_normal")
BEST_GATE_CHANGES = {"kl_weight": 3.0, "noise_lr": 3.0}  # of experiments.tuning, least error
GATE_CHANGES = {"lenet300": {**BEST_GATE_CHANGES, "pretrain": 30, "epochs": 100}, "lenet5": BEST_GATE_CHANGES}

# In order of value: correctness of the engines on a GPU, the paper's main network, speed, the tables that need a GPU,
# then the seeds of the main table and the curve of error against compression.
JOBS: tuple[Job, ...] = (
    CudaTests(),
    *(Compress("lenet5", "sparse", seed) for seed in range(3)),
    *(Benchmark(network) for network in step.NETWORK_NAMES),
    Scaling(),
    *_vgg(augment=False),
    *_cifar(cifar_accuracy.FULL, 1.0, seeds=3),
    *_figure(100, 250, 500, 750, 1000, 1250, seeds=3),
    *_uncertainty("lenet300", seeds=3),
    *_uncertainty("cifar_cnn", seeds=1),
    *(Compress("lenet5", "sparse", seed, PUBLISHED_CHANGES) for seed in range(2)),
    *(Compress("lenet300", "sparse", seed, {"noise_lr": 0.3, "pretrain": 30, "epochs": 100}) for seed in range(3)),
    *(Compress("lenet300", scheme, seed) for scheme in ("sparse", "hierarchical", "none") for seed in range(3)),
    *(Compress("lenet300", "sparse", seed, {"kl_weight": 0.7}) for seed in range(3)),
    *(Compress("lenet300", "hierarchical", seed, {"kl_weight": 0.3}) for seed in range(3)),
    *(Compress("lenet300", "sparse", seed, {"kl_weight": 1.25, "pretrain": 30, "epochs": 100}) for seed in range(3)),
    *(
        Compress("lenet300", "hierarchical", seed, {"kl_weight": 0.5, "pretrain": 30, "epochs": 100})
        for seed in range(3)
    ),
    *_baselines("lenet300", 0.98, pretrain=30, epochs=100, seeds=3),
    *_baselines("lenet300", 0.991, pretrain=30, epochs=100, seeds=3),
    *_baselines("lenet5", 0.9973, pretrain=30, epochs=170, seeds=2),  # compression 365, as with 200 epochs and no shift
    *_baselines("lenet5", 0.9967, pretrain=20, epochs=120, shift=1, seeds=2),  # about that of fine-tuned
    *(Compress("lenet5", scheme, 0) for scheme in ("hierarchical", "none")),
    *(Compress("lenet5", scheme, 0, {"kl_weight": 1.0}) for scheme in UNIT_SCHEMES),
    *(Compress(network, "l0", 0, changes) for network, changes in GATE_CHANGES.items()),
    *(AblationRun("lenet5", "sparse", 0, factor=factor) for factor in ablation.factors_of("lenet5")),
    *(AblationRun("lenet300", "sparse", 0, factor=factor, epochs=60) for factor in ablation.factors_of("lenet300")),
    *_vgg(augment=True),
    *_cifar(cifar_accuracy.RESNET, 1.0, seeds=3),
    *_cifar(cifar_accuracy.FULL, 1.5, seeds=3),
    *_cifar(cifar_accuracy.FULL, 2.0, seeds=3),
    *(
        Compress("lenet300", scheme, 0, {"kl_weight": weight})
        for weight in (0.1, 0.5, 2.0)
        for scheme in ("sparse", "hierarchical")
    ),
)


def main(args: Args) -> None:
    if not 0 < args.minutes < float("inf"):
        raise UserError("--minutes must be above 0 and finite")
    missing = [job for job in JOBS if not any(map(job.done, (job.committed, args.out / job.experiment)))]
    if args.list:
        print("\n".join(map(str, missing)) or "nothing is missing")
        return
    device = cli.device_of(args.device)
    cli.check_engine(args.engine, device)
    cli.check_folder(args.out)
    deadline = time.monotonic() + 60 * args.minutes
    longest: dict[str, float] = {}
    kind, split = "", None
    for job in missing:
        left = deadline - time.monotonic()
        if left < longest.get(job.kind, 0.0):
            print(f"{job}: would not fit into the {left / 60:.1f} minutes left")
            continue
        start = time.monotonic()
        try:
            if job.kind != kind or split is None:
                data = job.split(args)
                kind, split = job.kind, data.to(device) if data else None
            job.run(args, split, device)
        except UserError as error:  # missing data, for example; other jobs may have theirs
            print(f"{job}: {error}")
            kind = ""
        except Exception:  # code that has not run on this GPU may fail; the other jobs must still run
            traceback.print_exc()
            print(f"{job}: failed")
            kind = ""
        longest[job.kind] = max(longest.get(job.kind, 0.0), time.monotonic() - start)


if __name__ == "__main__":
    cli.run(Args, main)
