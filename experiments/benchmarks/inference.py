"""Speed of a compressed network: the same images through the network in every form, timed in turns of one run.

``python -m experiments.benchmarks.inference --record experiments/results/mnist_compress/RECORD.json`` loads the
compressed network beside the record and times the dense network, the dense network with as many zeros, the shrunk
network, the shrunk network with sparse matrices of PyTorch and of SciPy, and dense and shrunk networks in onnxruntime,
in float32 and int8, at batch sizes 1 and 256. For a network of your own, give the ``--factory`` and the ``--dataset``
that experiments.compress had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pyro_vd.compress import count_multiplications
from pyro_vd.data import DATASETS, DataSplits, LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import Step
from pyro_vd.experiments.benchmarks.forms import (
    Form,
    SciPyLinear,
    SparseLinear,
    find_factory,
    load_compressed,
    mask_smallest,
    read_run,
    to_sparse,
)
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.compression_tables import describe_training
from pyro_vd.experiments.common.environment import environment, hardware
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import Fit
from pyro_vd.experiments.common.store import Run
from pyro_vd.experiments.common.tables import Table
from pyro_vd.metrics import compute_logits, error_rate

REQUIRED = (
    "benchmark", "network", "scheme", "training", "rounds", "columns", "errors", "macs", "bytes", "device", "threads",
    "torch", "revision",
)  # fmt: skip
DENSE, MASKED, SHRUNK = "dense", "masked", "shrunk"
ONNX_DENSE = "ONNX, dense"
CALIBRATION = 512  # training images that set the scale of activations in int8


@dataclass(frozen=True, kw_only=True)
class Args(timing.Turns):
    """Times a compressed network's forward pass on a CPU."""

    record: Path
    """A record of mnist_compress, pruning_baselines or compress, with its network beside it."""
    factory: str | None = None
    """package.module:function of a network of your own, as in its record."""
    dataset: str | None = None
    """The folder of its images, if its dataset is a folder."""
    batches: tuple[int, ...] = (1, 256)
    turn: float = 0.1
    """Approximate seconds per turn."""
    threads: int = 1
    """CPU threads; 0 leaves PyTorch's choice."""
    data: Path | None = None
    """Folder of the datasets; by default $PYRO_VD_DATA or the user's cache."""
    out: Path | None = None
    """Folder of the times; by default experiments/benchmarks/results/inference, or, for a network of your own,
    inference beside the record."""


def main(args: Args) -> None:
    cli.needs_onnx()
    if not args.batches or min(args.batches) < 1:
        raise UserError("--batches needs numbers of at least 1")
    timing.check(args)
    default = args.record.parent / "inference" if args.factory else Path("experiments/benchmarks/results/inference")
    path = (args.out or default) / args.record.name
    cli.check_folder(path.parent)
    timing.publish({path.with_suffix(""): measure(args)}, make_tables)


@torch.no_grad()
def measure(args: Args) -> Record:
    """Times every form at every batch size, with its error, its bytes and its multiplications."""
    run = read_run(args.record)
    make = find_factory(run, args.factory)
    split = load_data(run, make(), args.dataset, args.data)
    forms = _make_forms(args, run, make, split)
    steps: dict[str, Step] = {name: timing.forward(form.run) for name, form in forms.items()}
    columns: dict[str, dict[str, Record]] = {name: {} for name in forms}
    for size in args.batches:
        batch = partial(split.test.batch, torch.arange(size) % len(split.test))
        timing.interleaved(steps, batch, rounds=1, turn=0.5, most=2000)
        times = timing.interleaved(steps, batch, args.rounds, args.turn, most=2000)
        for name, values in times.items():
            columns[name][str(size)] = timing.summarize(values)
        dense = columns[DENSE][str(size)]["median_ms"]
        for column in columns.values():
            column[str(size)]["times_faster"] = dense / column[str(size)]["median_ms"]
    return {
        "benchmark": "inference",
        "network": run.spec.network,
        "scheme": run.spec.method,
        "training": describe_training(run),
        **{key: run[key] for key in ("dataset", "test_error", "compression")},
        "seed": run.spec.seed,
        "trained": args.record.name,
        "errors": _measure_errors(forms, run, split.test),
        "bytes": {name: form.bytes for name, form in forms.items()},
        "macs": {name: form.macs for name, form in forms.items()},
        "rounds": args.rounds,
        "columns": columns,
        **environment(torch.device("cpu")),
    }


def load_data(run: Run, network: nn.Module, dataset: str | None, folder: Path | None) -> DataSplits:
    """Loads the data of the run, without random changes of its training images.

    Args:
        run: of a compressed network.
        network: a network of its class.
        dataset: the folder of its images, if its dataset is a folder.
        folder: of the datasets; None for the usual one.

    Raises:
        UserError: if other data are found.
    """
    name = dataset or run.spec.data.name
    if name not in DATASETS and not dataset:
        raise UserError(f"give --dataset, the folder of the images that the record calls {run['dataset']}")
    data = replace(run.spec.data, name=name, shift=0, augment=False)
    split = load_images(data, network, folder, run.spec.seed)
    check_same_data(run, split)
    return split


def check_same_data(run: Run, split: DataSplits) -> None:
    """Raises UserError for other data than those of the run."""
    wanted, found = (run.record.get("dataset", split.name), run["data_sha256"]), (split.name, split.sha256)
    if found != wanted:
        described = " is not ".join(f"{name} (SHA-256 {digest[:8]}...)" for name, digest in (wanted, found))
        raise UserError(f"other data than the record's: {described}")


def _make_forms(args: Args, run: Run, make: Callable[..., nn.Module], split: DataSplits) -> dict[str, Form]:
    from pyro_vd.experiments.benchmarks import onnx_forms  # needs the extra onnx, which tables of records do not

    dense, small = make(split.classes).eval(), load_compressed(run, make)
    images, _ = split.train.batch(torch.arange(min(CALIBRATION, len(split.train))))
    full, less = (count_multiplications(net, images[:1]) for net in (dense, small))
    least = count_multiplications(small, images[:1], sparse=True)
    whole, compressed = run["deployment"]["dense_bytes"], run["deployment"]["forms"]["float32"]["bytes"]
    return {
        DENSE: Form(dense, whole, full),
        MASKED: Form(mask_smallest(dense, run["sparsity_per_layer"]), whole, full),
        SHRUNK: Form(small, compressed, less),
        "sparse": Form(to_sparse(small, SparseLinear), compressed, least),  # converted after loading that file
        "sparse, SciPy": Form(to_sparse(small, SciPyLinear), compressed, least),
        ONNX_DENSE: onnx_forms.to_onnxruntime(dense, args.threads, full, images),
        "ONNX, shrunk": onnx_forms.to_onnxruntime(small, args.threads, less, images),
        "ONNX, shrunk, weights in int8": onnx_forms.to_dynamic_int8(small, args.threads, less, images),
        "ONNX, shrunk, all in int8": onnx_forms.to_static_int8(small, args.threads, less, images),
    }


def _measure_errors(forms: dict[str, Form], run: Run, test: LabeledImages) -> dict[str, float | None]:
    """Errors by name. The dense network is not stored: a network of its class is timed, with the error from the record.

    That is the error of the network as given, if it is the user's, else that of the posterior mean. The dense network
    of a baseline has no measured error.
    """
    of_posterior = run["test_error_unpruned"] if isinstance(run.spec.main, Fit) else None
    unpruned = run.record.get("test_error_dense", of_posterior)
    known = {DENSE: unpruned, ONNX_DENSE: unpruned, MASKED: run["test_error"]}
    others = {name: form for name, form in forms.items() if name not in known}
    return known | {name: error_rate(compute_logits(form.run, test), test.labels) for name, form in others.items()}


def make_tables(records: Iterable[Record]) -> list[Table]:
    """A table per record: error, multiplications and bytes of every form, and its speedup over dense."""
    return [_make_table(record) for record in records]


def _make_table(record: Record) -> Table:
    title = (
        f"{record['network']}, {record['scheme']}, {record['training']}, "
        f"{record['compression'] or math.inf:.0f}x fewer weights, seed {record['seed']}, {hardware(record)}"
    )
    sizes = list(record["columns"][DENSE])
    times = [name for size in sizes for name in (f"µs at {size}", "times")]
    rows = [_make_row(record, name, sizes) for name in record["columns"]]
    return Table(title, ("form", "error %", "MACs", "file, KiB", *times), tuple(rows))


def _make_row(record: Record, name: str, sizes: Iterable[str]) -> tuple[str, ...]:
    error, column = record["errors"][name], record["columns"][name]
    times = [(f"{1e3 * column[size]['median_ms']:.1f}", f"{column[size]['times_faster']:.2f}x") for size in sizes]
    return (
        name,
        f"{100 * error:.2f}" if error is not None else "",
        f"{record['macs'][name]:,}",
        f"{record['bytes'][name] / 1024:,.1f}",
        *(cell for pair in times for cell in pair),
    )


if __name__ == "__main__":
    cli.run(Args, main)
