"""The jobs of experiments.gpu_queue: each finds its record, loads its data, and runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import torch

from pyro_vd.data import DataSplits
from pyro_vd.errors import UserError
from pyro_vd.experiments import (
    ablation,
    cifar_accuracy,
    cifar_compress,
    mnist_accuracy,
    mnist_compress,
    pruning_baselines,
    uncertainty,
)
from pyro_vd.experiments.benchmarks import scaling, step
from pyro_vd.experiments.common import accuracy, published
from pyro_vd.experiments.common.cli import Training
from pyro_vd.experiments.common.compression import described, one_run
from pyro_vd.experiments.common.records import environment, mismatches, read_records, write_record
from pyro_vd.experiments.common.training import load_data
from pyro_vd.models import MLP, NETWORKS

Arguments = TypeVar("Arguments", bound=Training)
RESULTS = Path(__file__).parent / "results"
CUDA_TEST_FILE = Path(__file__).parents[1] / "tests" / "test_cuda.py"
CUDA_TEST_SECONDS = 300
CUDA_TEST_KEYS = ("experiment", "tests", "failed", "skipped", "device", "torch", "revision")
REAL_DATASETS = {mnist_accuracy.EXPERIMENT: ("mnist",), cifar_accuracy.EXPERIMENT: published.CIFAR}


@dataclass(frozen=True)
class Where:
    """Device, engine, and folders of the data and records of all jobs."""

    device: str = "auto"
    engine: str = "auto"
    data: Path | None = None
    out: Path = Path("runs/queue")
    """Folder with one folder of records per experiment."""


class Job(ABC):
    """One run of an experiment. Subclasses name it, find its record, and run it."""

    experiment: str

    def placed(self, args: Arguments, where: Where) -> Arguments:
        """The arguments of its run with the device and folders of ``where``."""
        out = where.out / self.experiment
        return replace(args, data=where.data, device=where.device, engine=where.engine, out=out)  # type: ignore[call-arg]

    @property
    def committed(self) -> Path:
        """The folder of its experiment's committed records."""
        return RESULTS / self.experiment

    @property
    @abstractmethod
    def kind(self) -> str:
        """Jobs of one kind take about the same time."""

    @abstractmethod
    def done(self, folder: Path) -> bool:
        """Whether ``folder`` holds its record."""

    @abstractmethod
    def split(self, where: Where) -> DataSplits | None:
        """Its data, on the host; None if it needs none."""

    @abstractmethod
    def run(self, where: Where, split: Any, device: torch.device) -> None:
        """Runs it and writes its record under ``where.out``."""


@dataclass(frozen=True)
class Compress(Job):
    """A run of mnist_compress: changes of its arguments, and the seed."""

    network: str
    scheme: str
    seed: int
    changes: dict[str, Any] = field(default_factory=dict)

    experiment = mnist_compress.EXPERIMENT

    @property
    def kind(self) -> str:
        args = self.args(Where())
        return f"{self.network} {args.pretrain} + {args.epochs} + {args.fine_tune}"

    def args(self, where: Where) -> mnist_compress.Args:
        base = mnist_compress.Args(dataset="mnist", network=self.network, scheme=(self.scheme,), **self.changes)
        args = self.placed(base, where)
        return args.settled(mnist_compress.protocol_of(args, "mnist"))

    def done(self, folder: Path) -> bool:
        args = self.args(Where())
        protocol = mnist_compress.protocol_of(args, "mnist")
        wanted = described(args, protocol, "mnist", self.network, self.scheme, self.seed) | {"dataset": "mnist"}
        return not all(mismatches(record, wanted, args.defaults()) for record in read_records(folder))

    def split(self, where: Where) -> DataSplits:
        return load_data("mnist", NETWORKS[self.network](), where.data)

    def run(self, where: Where, split: DataSplits, device: torch.device) -> None:
        one_run(mnist_compress.table(self.args(where), split, device), self.scheme, self.seed)

    def __str__(self) -> str:
        return " ".join(
            [self.network, self.scheme, f"seed {self.seed}", *(f"{k}={v}" for k, v in self.changes.items())]
        )


@dataclass(frozen=True)
class AblationRun(Compress):
    """A run of the ablation."""

    factor: str = ""
    epochs: int = 30

    experiment = ablation.EXPERIMENT

    def args(self, where: Where) -> mnist_compress.Args:
        base = ablation.with_factor(ablation.Args(network=self.network, epochs=self.epochs), self.factor)
        return self.placed(base, where)

    def __str__(self) -> str:
        return f"{self.experiment} of {self.network}, {self.epochs} epochs, {self.factor}, seed {self.seed}"


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

    def args(self, where: Where) -> cifar_compress.Args:
        base = cifar_compress.Args(
            dataset="cifar10", protocol="full", scale=self.scale, scheme=(self.scheme,), augment=self.augment
        )
        return self.placed(base, where).settled(cifar_compress.FULL)

    def done(self, folder: Path) -> bool:
        args = self.args(Where())
        network = cifar_compress.network(self.scale)
        wanted = described(args, cifar_compress.FULL, "cifar10", network, self.scheme, self.seed)
        records = (r for r in read_records(folder) if r["dataset"] in published.CIFAR)
        return not all(mismatches(record, wanted, args.defaults()) for record in records)

    def split(self, where: Where) -> DataSplits:
        return cifar_compress.prepared(self.args(where))

    def run(self, where: Where, split: DataSplits, device: torch.device) -> None:
        one_run(cifar_compress.table(self.args(where), split, device), self.scheme, self.seed)

    def __str__(self) -> str:
        return f"{self.kind} {self.scheme}, seed {self.seed}"


@dataclass(frozen=True)
class Baseline(Job):
    """A run of pruning_baselines, with the number of gradient steps of the row that it is compared with."""

    network: str
    method: str
    sparsity: float
    seed: int
    pretrain: int
    epochs: int
    lr: float
    shift: int = 0

    experiment = pruning_baselines.EXPERIMENT

    @property
    def kind(self) -> str:
        return f"{self.network} {self.method} {self.pretrain} + {self.epochs}"

    def args(self, where: Where) -> pruning_baselines.Args:
        names = ("network", "pretrain", "epochs", "lr", "shift")
        base = pruning_baselines.Args(dataset="mnist", **{name: getattr(self, name) for name in names})
        return self.placed(base, where)

    def done(self, folder: Path) -> bool:
        wanted = pruning_baselines.described(self.args(Where()), self.method, self.sparsity, self.seed)
        records = (r for r in read_records(folder) if r["dataset"] == "mnist")
        return not all(mismatches(record, wanted, pruning_baselines.DEFAULTS) for record in records)

    def split(self, where: Where) -> DataSplits:
        return load_data("mnist", NETWORKS[self.network](), where.data)

    def run(self, where: Where, split: DataSplits, device: torch.device) -> None:
        pruning_baselines.one_run(self.args(where), split, self.method, self.sparsity, self.seed, device)

    def __str__(self) -> str:
        return f"{self.network} {self.method} to {pruning_baselines.share(self.sparsity)}, seed {self.seed}"


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
        records = (r for r in read_records(folder, accuracy.REQUIRED) if r["dataset"] in REAL_DATASETS[self.experiment])
        return not all(mismatches(record, wanted, accuracy.DEFAULTS) for record in records)

    def split(self, where: Where) -> DataSplits:
        if self.experiment == mnist_accuracy.EXPERIMENT:
            return load_data("mnist", MLP(), where.data)
        return cifar_accuracy.prepared(self.protocol, accuracy.Args(dataset="cifar10", data=where.data))

    def run(self, where: Where, split: DataSplits, device: torch.device) -> None:
        args = accuracy.Args(engine=where.engine, out=where.out / self.experiment)
        accuracy.one_run(accuracy.Table(self.experiment, self.protocol, split, device, args), self.cell, self.seed)

    def __str__(self) -> str:
        return f"{self.experiment} {self.protocol.name}, {self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class Uncertain(Job):
    """A row of the uncertainty table with one seed."""

    cell: accuracy.Cell
    seed: int

    experiment = uncertainty.EXPERIMENT

    @property
    def kind(self) -> str:
        return f"{self.experiment} {self.cell.column}"

    def args(self, where: Where) -> uncertainty.Args:
        """Those of the experiment's command line."""
        dataset = uncertainty.NETWORK_DATASETS[self.cell.column]
        base = uncertainty.Args(dataset=dataset, network=self.cell.column)
        return replace(base, data=where.data, engine=where.engine, out=where.out / self.experiment)

    def done(self, folder: Path) -> bool:
        wanted = accuracy.described(uncertainty.PROTOCOL, self.cell, self.seed)
        real = published.CIFAR if self.args(Where()).dataset == "cifar10" else ("mnist",)
        wanted["num_samples"] = self.args(Where()).num_samples
        complete = set(self.args(Where()).ood_datasets)  # a record without them was made without their data
        records = (r for r in read_records(folder, uncertainty.REQUIRED) if r["dataset"] in real)
        found = (record for record in records if complete <= record["ood_datasets"].keys())
        return not all(mismatches(record, wanted, accuracy.DEFAULTS) for record in found)

    def split(self, where: Where) -> DataSplits:
        return load_data(self.args(where).dataset, self.cell.make(accuracy.CLASSES), where.data)

    def run(self, where: Where, split: DataSplits, device: torch.device) -> None:
        args = self.args(where)
        table = accuracy.Table(self.experiment, uncertainty.PROTOCOL, split, device, args)
        uncertainty.one_run(
            table, self.cell, self.seed, uncertainty.load_ood_datasets(args, self.cell.make(split.classes))
        )

    def __str__(self) -> str:
        return f"{self.experiment} {self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class Benchmark(Job):
    """Times of the training step of one network, ours and others, on a GPU."""

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

    def split(self, where: Where) -> DataSplits:
        return step.load_step_data(step.Args(data=where.data), self.network)

    def run(self, where: Where, split: DataSplits, device: torch.device) -> None:
        _need_gpu(device, "python -m experiments.benchmarks.step measures a CPU")
        step.one_network(step.Args(out=where.out / self.experiment), self.network, split, device)

    def __str__(self) -> str:
        return f"benchmarks.step {self.network}"


@dataclass(frozen=True)
class Scaling(Job):
    """Times of a training step against weights, batch size and seeds, on a GPU."""

    experiment = "scaling"

    @property
    def committed(self) -> Path:
        return Path(scaling.__file__).parent / "results" / "scaling"

    @property
    def kind(self) -> str:
        return "scaling"

    def done(self, folder: Path) -> bool:
        return any(not record["device"].startswith("cpu") for record in read_records(folder, scaling.REQUIRED))

    def split(self, where: Where) -> None:
        return None

    def run(self, where: Where, split: None, device: torch.device) -> None:
        _need_gpu(device, "python -m experiments.benchmarks.scaling measures a CPU")
        scaling.main(scaling.Args(seeds=(1, 2, 4, 8, 16, 32), device=str(device), out=where.out / self.experiment))

    def __str__(self) -> str:
        return "benchmarks.scaling"


@dataclass(frozen=True)
class CudaTests(Job):
    """The tests of the engines on a GPU."""

    experiment = "cuda_tests"

    @property
    def kind(self) -> str:
        return "cuda tests"

    def done(self, folder: Path) -> bool:
        records = read_records(folder, CUDA_TEST_KEYS)
        return any(record["failed"] == record["skipped"] == 0 < record["tests"] for record in records)

    def split(self, where: Where) -> None:
        return None

    def run(self, where: Where, split: None, device: torch.device) -> None:
        _need_gpu(device, "without one all tests are skipped")
        if importlib.util.find_spec("pytest") is None:
            raise UserError("needs pytest; pip install pytest")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            command = [sys.executable, "-m", "pytest", "-q", str(CUDA_TEST_FILE), f"--junitxml={report}"]
            try:
                subprocess.run(command, check=False, timeout=CUDA_TEST_SECONDS)
                counts = count_tests(report)
            except (subprocess.TimeoutExpired, OSError) as error:
                raise UserError(f"the tests did not end by themselves: {error}") from None
        record = {"experiment": self.experiment, **counts, **environment(device)}
        write_record(where.out / self.experiment / "cuda_tests.json", record)

    def __str__(self) -> str:
        return "tests/test_cuda.py"


def count_tests(report: Path) -> dict[str, int]:
    """How many tests a JUnit report has, and how many of them failed or were skipped."""
    tree = ElementTree.parse(report)  # noqa: S314  (pytest has just written it)
    suites = [suite.attrib for suite in tree.getroot().iter("testsuite")]
    tests, skipped = (sum(int(suite[key]) for suite in suites) for key in ("tests", "skipped"))
    failed = sum(int(suite["failures"]) + int(suite["errors"]) for suite in suites)
    return {"tests": tests, "failed": failed, "skipped": skipped}


def _need_gpu(device: torch.device, otherwise: str) -> None:
    if device.type == "cpu":
        raise UserError(f"needs a GPU; {otherwise}")
