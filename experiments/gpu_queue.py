"""Every table cell that has no committed record yet, most valuable first, within a time budget.

``python -m experiments.gpu_queue --minutes 25 --device cuda`` runs cells until the next one would not fit, and leaves
records to copy into experiments/results. An interrupted cell goes on from its checkpoint when the queue runs again
with the same ``--out``. ``--list`` shows what is missing and runs nothing.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks import scaling, step
from experiments import cifar_accuracy, cifar_compress, mnist_accuracy, mnist_compress, pruning_baselines
from experiments.common import accuracy, cli, published
from experiments.common.compression import described, one_run
from experiments.common.records import circumstances, differing, read_records, write_record
from experiments.common.training import data_for
from models import NETWORKS, mlp
from pyro_vd.data import Split
from pyro_vd.errors import UserError

COMMITTED = Path(__file__).parent / "results"
TESTS = Path(__file__).parents[1] / "tests" / "test_cuda.py"
TESTS_SECONDS = 300
CUDA_TESTS = ("experiment", "tests", "failed", "skipped", "device", "torch", "revision")
REAL = {mnist_accuracy.EXPERIMENT: ("mnist",), cifar_accuracy.EXPERIMENT: published.CIFAR}


@dataclass(frozen=True)
class Args:
    """Runs missing cells within a time budget."""

    minutes: float = 25.0
    """Stop before a cell that would not fit, judged by the longest one so far of the same kind."""
    device: str = "auto"
    engine: str = "auto"
    data: Path | None = None
    out: Path = Path("runs/queue")
    """Folder with one folder of records per experiment."""
    list: bool = False
    """Show the missing cells and stop."""


class Job(ABC):
    """One run of an experiment that may be missing. Subclasses name it, find its record, and run it."""

    experiment: str

    @property
    def committed(self) -> Path:
        """The folder of its experiment's committed records."""
        return COMMITTED / self.experiment

    @property
    @abstractmethod
    def kind(self) -> str:
        """What takes about as long."""

    @abstractmethod
    def done(self, folder: Path) -> bool:
        """Whether ``folder`` holds its record."""

    @abstractmethod
    def split(self, queue: Args) -> Split | None:
        """Its data, on the host; None where it needs none."""

    @abstractmethod
    def run(self, queue: Args, split: Any, device: torch.device) -> None:
        """Leaves its record under ``queue.out``."""


@dataclass(frozen=True)
class Compress(Job):
    """A run of mnist_compress: what it changes of that experiment's arguments, and its seed."""

    network: str
    scheme: str
    seed: int
    changes: dict[str, float] = field(default_factory=dict)

    experiment = mnist_compress.EXPERIMENT

    @property
    def kind(self) -> str:
        return self.network

    def args(self, queue: Args) -> mnist_compress.Args:
        base = mnist_compress.Args(dataset="mnist", network=self.network, scheme=(self.scheme,))
        where = {"data": queue.data, "device": queue.device, "engine": queue.engine}
        return replace(base, **where, out=queue.out / self.experiment, **self.changes)  # type: ignore[arg-type]

    def done(self, folder: Path) -> bool:
        args = self.args(Args())
        epochs = args.epochs or mnist_compress.HEADLINE.epochs
        wanted = {**described(args, self.network, epochs, self.scheme, self.seed), "dataset": "mnist"}
        return not all(differing(record, wanted, args.defaults()) for record in read_records(folder))

    def split(self, queue: Args) -> Split:
        return data_for("mnist", NETWORKS[self.network](), queue.data)

    def run(self, queue: Args, split: Split, device: torch.device) -> None:
        one_run(mnist_compress.table(self.args(queue), split, device), self.scheme, self.seed)

    def __str__(self) -> str:
        return " ".join(
            [self.network, self.scheme, f"seed {self.seed}", *(f"{k}={v}" for k, v in self.changes.items())]
        )


@dataclass(frozen=True)
class CompressCifar(Job):
    """A run of cifar_compress's full protocol."""

    scale: float
    scheme: str
    seed: int
    augment: bool = False

    experiment = cifar_compress.EXPERIMENT

    @property
    def kind(self) -> str:
        return cifar_compress.network(self.scale) + " augmented" * self.augment

    def args(self, queue: Args) -> cifar_compress.Args:
        base = cifar_compress.Args(dataset="cifar10", protocol="full", scale=self.scale, scheme=(self.scheme,))
        where = {"data": queue.data, "device": queue.device, "engine": queue.engine, "augment": self.augment}
        return replace(base, **where, out=queue.out / self.experiment)  # type: ignore[arg-type]

    def done(self, folder: Path) -> bool:
        args = self.args(Args())
        network = cifar_compress.network(self.scale)
        wanted = described(args, network, cifar_compress.FULL.epochs, self.scheme, self.seed)
        records = (r for r in read_records(folder) if r["dataset"] in published.CIFAR)
        return not all(differing(record, wanted, args.defaults()) for record in records)

    def split(self, queue: Args) -> Split:
        return cifar_compress.prepared(self.args(queue))

    def run(self, queue: Args, split: Split, device: torch.device) -> None:
        one_run(cifar_compress.table(self.args(queue), split, device), self.scheme, self.seed)

    def __str__(self) -> str:
        return f"{self.kind} {self.scheme}, seed {self.seed}"


@dataclass(frozen=True)
class Baseline(Job):
    """A run of pruning_baselines."""

    network: str
    method: str
    sparsity: float
    seed: int

    experiment = pruning_baselines.EXPERIMENT

    @property
    def kind(self) -> str:
        return f"{self.network} {self.method}"

    def args(self, queue: Args) -> pruning_baselines.Args:
        base = pruning_baselines.Args(dataset="mnist", network=self.network)
        where = {"data": queue.data, "device": queue.device, "engine": queue.engine}
        return replace(base, **where, out=queue.out / self.experiment)  # type: ignore[arg-type]

    def done(self, folder: Path) -> bool:
        wanted = pruning_baselines.described(self.args(Args()), self.method, self.sparsity, self.seed)
        records = (r for r in read_records(folder) if r["dataset"] == "mnist")
        return not all(differing(record, wanted, pruning_baselines.DEFAULTS) for record in records)

    def split(self, queue: Args) -> Split:
        return data_for("mnist", NETWORKS[self.network](), queue.data)

    def run(self, queue: Args, split: Split, device: torch.device) -> None:
        pruning_baselines.one_run(self.args(queue), split, self.method, self.sparsity, self.seed, device)

    def __str__(self) -> str:
        return f"{self.network} {self.method} to {self.sparsity:.2%}, seed {self.seed}"


@dataclass(frozen=True)
class Accuracy(Job):
    """A cell of an accuracy table with one seed."""

    experiment: str
    protocol: accuracy.Protocol
    cell: accuracy.Cell
    seed: int

    @property
    def kind(self) -> str:
        return f"{self.experiment} {self.protocol.name} {self.cell.column}"

    def done(self, folder: Path) -> bool:
        wanted = accuracy.described(self.protocol, self.cell, self.seed)
        records = (r for r in read_records(folder, accuracy.REQUIRED) if r["dataset"] in REAL[self.experiment])
        return not all(differing(record, wanted, accuracy.DEFAULTS) for record in records)

    def split(self, queue: Args) -> Split:
        if self.experiment == mnist_accuracy.EXPERIMENT:
            return data_for("mnist", mlp(), queue.data)
        return cifar_accuracy.prepared(self.protocol, accuracy.Args(dataset="cifar10", data=queue.data))

    def run(self, queue: Args, split: Split, device: torch.device) -> None:
        args = accuracy.Args(engine=queue.engine, out=queue.out / self.experiment)
        accuracy.one_run(accuracy.Table(self.experiment, self.protocol, split, device, args), self.cell, self.seed)

    def __str__(self) -> str:
        return f"{self.experiment} {self.protocol.name}, {self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class Benchmark(Job):
    """The training step of one network beside its peers, on a GPU."""

    network: str

    experiment = "benchmarks"

    @property
    def committed(self) -> Path:
        return Path(step.__file__).parent / "results"

    @property
    def kind(self) -> str:
        return f"step of {self.network}"

    def done(self, folder: Path) -> bool:
        records = read_records(folder, step.REQUIRED)
        return any(r["network"] == self.network and not r["device"].startswith("cpu") for r in records)

    def split(self, queue: Args) -> Split:
        return step.data_of(step.Args(data=queue.data), self.network)

    def run(self, queue: Args, split: Split, device: torch.device) -> None:
        _need_gpu(device, "python -m benchmarks.step measures a CPU")
        step.one_network(step.Args(out=queue.out / self.experiment), self.network, split, device)

    def __str__(self) -> str:
        return f"benchmarks.step {self.network}"


@dataclass(frozen=True)
class Scaling(Job):
    """A training step against weights, batch and seeds, on a GPU."""

    experiment = "scaling"

    @property
    def committed(self) -> Path:
        return Path(scaling.__file__).parent / "results" / "scaling"

    @property
    def kind(self) -> str:
        return "scaling"

    def done(self, folder: Path) -> bool:
        return any(not record["device"].startswith("cpu") for record in read_records(folder, scaling.REQUIRED))

    def split(self, queue: Args) -> None:
        return None

    def run(self, queue: Args, split: None, device: torch.device) -> None:
        _need_gpu(device, "python -m benchmarks.scaling measures a CPU")
        scaling.main(scaling.Args(seeds=(1, 2, 4, 8, 16, 32), device=str(device), out=queue.out / self.experiment))

    def __str__(self) -> str:
        return "benchmarks.scaling"


@dataclass(frozen=True)
class CudaTests(Job):
    """The tests of the engines on a GPU: what nobody has seen pass there is unproven."""

    experiment = "cuda_tests"

    @property
    def kind(self) -> str:
        return "cuda tests"

    def done(self, folder: Path) -> bool:
        records = read_records(folder, CUDA_TESTS)
        return any(record["failed"] == record["skipped"] == 0 < record["tests"] for record in records)

    def split(self, queue: Args) -> None:
        return None

    def run(self, queue: Args, split: None, device: torch.device) -> None:
        _need_gpu(device, "without one they skip themselves")
        if importlib.util.find_spec("pytest") is None:
            raise UserError("needs pytest; pip install pytest")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", str(TESTS), f"--junitxml={report}"]
            try:
                subprocess.run(command, check=False, timeout=TESTS_SECONDS)
                counts = counted(report)
            except (subprocess.TimeoutExpired, OSError) as error:
                raise UserError(f"the tests did not end by themselves: {error}") from None
        record = {"experiment": self.experiment, **counts, **circumstances(device)}
        write_record(queue.out / self.experiment / "cuda_tests.json", record)

    def __str__(self) -> str:
        return "tests/test_cuda.py"


def counted(report: Path) -> dict[str, int]:
    """How many tests a JUnit report has, and how many of them failed or were skipped."""
    tree = ElementTree.parse(report)  # noqa: S314  (pytest has just written it)
    suites = [suite.attrib for suite in tree.getroot().iter("testsuite")]
    tests, skipped = (sum(int(suite[key]) for suite in suites) for key in ("tests", "skipped"))
    failed = sum(int(suite["failures"]) + int(suite["errors"]) for suite in suites)
    return {"tests": tests, "failed": failed, "skipped": skipped}


def _need_gpu(device: torch.device, otherwise: str) -> None:
    if device.type == "cpu":
        raise UserError(f"needs a GPU; {otherwise}")


def _cifar(protocol: accuracy.Protocol, scale: float, seeds: int) -> list[Job]:
    cells = cifar_accuracy.cells(protocol, scale)
    job = partial(Accuracy, cifar_accuracy.EXPERIMENT, protocol)
    return [job(cell, seed) for seed in range(seeds) for cell in cells]


def _figure(*hidden: int, seeds: int) -> list[Job]:
    job = partial(Accuracy, mnist_accuracy.EXPERIMENT, mnist_accuracy.PROTOCOL)
    return [job(cell, seed) for seed in range(seeds) for cell in mnist_accuracy.cells(hidden)]


def _vgg(augment: bool) -> list[Job]:
    return [CompressCifar(scale, scheme, 0, augment) for scheme in ("sparse", "none") for scale in (0.25, 0.5, 1.0)]


def _baselines(network: str, *sparsities: float, seeds: int) -> list[Job]:
    methods = pruning_baselines.METHODS
    return [Baseline(network, m, sparsity, seed) for seed in range(seeds) for m in methods for sparsity in sparsities]


STRUCTURED = ("group_normal_jeffreys", "group_horseshoe", "structured_log_normal")  # whole units and filters go

# In order of value: whether the engines are right on a GPU, the paper's headline network, speed, the tables that need a
# GPU, then the seeds of the main table and the error/compression curve.
JOBS: tuple[Job, ...] = (
    CudaTests(),
    *(Compress("lenet5", "sparse", seed) for seed in range(2)),
    *(Benchmark(network) for network in step.NETWORKS),
    Scaling(),
    *_vgg(augment=False),
    *_cifar(cifar_accuracy.FULL, 1.0, seeds=3),
    *_figure(100, 250, 500, 750, 1000, 1250, seeds=3),
    Compress("lenet5", "sparse", 0, {"pretrain": 10, "epochs": 80}),
    *(Compress("lenet300", scheme, seed) for scheme in ("sparse", "hierarchical", "none") for seed in range(3)),
    *(Compress("lenet300", "sparse", seed, {"kl_weight": 0.7}) for seed in range(3)),
    *(Compress("lenet300", "hierarchical", seed, {"kl_weight": 0.3}) for seed in range(3)),
    *(Compress("lenet300", "sparse", seed, {"kl_weight": 1.25, "pretrain": 30, "epochs": 100}) for seed in range(3)),
    *(
        Compress("lenet300", "hierarchical", seed, {"kl_weight": 0.5, "pretrain": 30, "epochs": 100})
        for seed in range(3)
    ),
    *_baselines("lenet300", 0.98, 0.991, seeds=3),
    *_baselines("lenet5", 0.9953, 0.9964, seeds=2),
    *(Compress("lenet5", scheme, 0) for scheme in ("hierarchical", "none", *STRUCTURED)),
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
    missing = [job for job in JOBS if not any(map(job.done, (job.committed, args.out / job.experiment)))]
    if args.list:
        print("\n".join(map(str, missing)) or "nothing is missing")
        return
    device = cli.device_of(args.device)
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
        except UserError as error:  # data that are not here: other jobs may have theirs
            print(f"{job}: {error}")
            kind = ""
        except RuntimeError:  # code that no GPU has run before may fail there, and must not take the other jobs with it
            traceback.print_exc()
            print(f"{job}: failed")
            kind = ""
        longest[job.kind] = max(longest.get(job.kind, 0.0), time.monotonic() - start)


if __name__ == "__main__":
    cli.run(Args, main)
