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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vd.data import DATASETS, DataSplits, LabeledImages, load
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.columns import Step
from pyro_vd.experiments.benchmarks.compressed import find_factory, load_compressed, read_compressed_record
from pyro_vd.experiments.benchmarks.forms import Form, SciPyLinear, SparseLinear, macs, mask_smallest, to_sparse
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.factory import adapt
from pyro_vd.experiments.common.records import Record, environment, hardware, write_record
from pyro_vd.experiments.common.tables import to_markdown
from pyro_vd.experiments.common.training import load_data
from pyro_vd.metrics import compute_logits, error_rate

REQUIRED = (
    "benchmark", "network", "scheme", "rounds", "columns", "errors", "macs", "bytes", "device", "threads", "torch",
    "revision",
)  # fmt: skip
DENSE, MASKED, SHRUNK = "dense", "masked", "shrunk"
ONNX_DENSE = "ONNX, dense"
CALIBRATION = 512  # training images that set the scale of activations in int8


@dataclass(frozen=True)
class Args:
    """Times a compressed network's forward pass on a CPU."""

    record: Path
    """A record of mnist_compress, pruning_baselines or compress, with its network beside it."""
    factory: str | None = None
    """package.module:function of a network of your own, as in its record."""
    dataset: str | None = None
    """The folder of its images, if its dataset is a folder."""
    batches: tuple[int, ...] = (1, 256)
    rounds: int = 30
    """Turns of every form; medians over turns are reported."""
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
    if args.rounds < 2 or args.threads < 0 or not args.batches or min(args.batches) < 1:
        raise UserError("--rounds must be at least 2, --batches at least 1, --threads at least 0")
    if not 0 <= args.turn < math.inf:
        raise UserError("--turn must be at least 0 and finite: seconds")
    cli.set_threads(args.threads)
    default = args.record.parent / "inference" if args.factory else Path("experiments/benchmarks/results/inference")
    path = (args.out or default) / args.record.name
    cli.check_folder(path.parent)
    record = measure(args)
    write_record(path, record)
    print(f"\n{inference_tables([record])}\n")
    print(path)


@torch.no_grad()
def measure(args: Args) -> Record:
    """Times every form at every batch size, with its error, its bytes and its multiplications."""
    trained = read_compressed_record(args.record)
    make = find_factory(trained, args.factory)
    split = _load_data(trained, make(), args)
    forms = _forms(args, trained, make, split)
    columns: dict[str, dict[str, Record]] = {name: {} for name in forms}
    for size in args.batches:
        images, _ = split.test.batch(torch.arange(size) % len(split.test))
        steps: dict[str, Step] = {name: partial(_step, form.run) for name, form in forms.items()}
        batch = partial(_same, (images, images))
        timing.interleaved(steps, batch, rounds=1, turn=0.5, most=2000)
        times = timing.interleaved(steps, batch, args.rounds, args.turn, most=2000)
        for name, values in times.items():
            columns[name][str(size)] = {
                "median_ms": float(torch.tensor(values).median()),
                "interval_ms": timing.median_interval(values),
                "times_faster": float(torch.tensor(times[DENSE]).median() / torch.tensor(values).median()),
            }
    return {
        "benchmark": "inference",
        **{key: trained[key] for key in ("network", "scheme", "dataset", "seed", "test_error", "compression")},
        "trained": args.record.name,
        "errors": _errors(forms, trained, split.test),
        "bytes": {name: form.bytes for name, form in forms.items()},
        "macs": {name: form.macs for name, form in forms.items()},
        "rounds": args.rounds,
        "columns": columns,
        **environment(torch.device("cpu")),
    }


def _load_data(trained: Record, network: nn.Module, args: Args) -> DataSplits:
    """Loads the data of the record.

    Raises:
        UserError: if other data are found.
    """
    name = args.dataset or trained["dataset"].split(" ")[0]
    if args.factory and name not in DATASETS and not args.dataset:
        raise UserError(f"give --dataset, the folder of the images that the record calls {trained['dataset']}")
    if args.factory:
        split = adapt(load(name, args.data), network, trained["size"])
    else:
        split = load_data(name, network, args.data, validation=trained.get("validation") or 0)
    wanted, found = (trained["dataset"], trained["data_sha256"]), (split.name, split.sha256)
    if found != wanted:
        described = " is not ".join(f"{name} (SHA-256 {digest[:8]}...)" for name, digest in (wanted, found))
        raise UserError(f"other data than the record's: {described}")
    return split


def _forms(args: Args, trained: Record, make: Callable[..., nn.Module], split: DataSplits) -> dict[str, Form]:
    from pyro_vd.experiments.benchmarks import onnx_forms  # needs the extra onnx, which tables of records do not

    dense, small = make(split.classes).eval(), load_compressed(args.record, make)
    images, _ = split.train.batch(torch.arange(min(CALIBRATION, len(split.train))))
    full, less, least = macs(dense, images[:1]), macs(small, images[:1]), macs(small, images[:1], sparse=True)
    whole, compressed = trained["deployment"]["dense_bytes"], trained["deployment"]["forms"]["float32"]["bytes"]
    return {
        DENSE: Form(dense, whole, full),
        MASKED: Form(mask_smallest(dense, trained["sparsity_per_layer"]), whole, full),
        SHRUNK: Form(small, compressed, less),
        "sparse": Form(to_sparse(small, SparseLinear), compressed, least),  # converted after loading that file
        "sparse, SciPy": Form(to_sparse(small, SciPyLinear), compressed, least),
        ONNX_DENSE: onnx_forms.to_onnxruntime(dense, args.threads, full, images),
        "ONNX, shrunk": onnx_forms.to_onnxruntime(small, args.threads, less, images),
        "ONNX, shrunk, weights in int8": onnx_forms.to_dynamic_int8(small, args.threads, less, images),
        "ONNX, shrunk, all in int8": onnx_forms.to_static_int8(small, args.threads, less, images),
    }


def _errors(forms: dict[str, Form], trained: Record, test: LabeledImages) -> dict[str, float | None]:
    """Errors by name. The dense network is not stored: a network of its class is timed, with the error from the record.

    That is the error of the network as given, if it is the user's, else that of the posterior mean. The dense network
    of a baseline, which has no threshold, has no measured error.
    """
    unpruned = trained["test_error_unpruned"] if trained["threshold"] is not None else None
    unpruned = trained.get("test_error_dense", unpruned)
    known = {DENSE: unpruned, ONNX_DENSE: unpruned, MASKED: trained["test_error"]}
    others = {name: form for name, form in forms.items() if name not in known}
    return known | {name: error_rate(compute_logits(form.run, test), test.labels) for name, form in others.items()}


def inference_tables(records: Iterable[Record]) -> str:
    """A table per record: error, multiplications and bytes of every form, and its speedup over dense."""
    return "\n\n".join(_table(record) for record in records)


def _table(record: Record) -> str:
    title = (
        f"{record['network']}, {record['scheme']}, {record['compression'] or math.inf:.0f}x fewer weights, "
        f"seed {record['seed']}, {hardware(record)}:"
    )
    sizes = list(next(iter(record["columns"].values())))
    header = ("form", "error %", "multiplications", "file, KiB")
    rows = [(*header, *(cell for size in sizes for cell in (f"batch {size}, us", "times")))]
    for name, column in record["columns"].items():
        cells = [(f"{1e3 * column[size]['median_ms']:.1f}", f"{column[size]['times_faster']:.2f}x") for size in sizes]
        error = record["errors"][name]
        shown = f"{100 * error:.2f}" if error is not None else ""
        about = (name, shown, f"{record['macs'][name]:,}", f"{record['bytes'][name] / 1024:,.1f}")
        rows.append((*about, *(cell for pair in cells for cell in pair)))
    return f"{title}\n\n{to_markdown(rows)}"


def _step(run: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> object:
    return run(x)


def _same(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch


if __name__ == "__main__":
    cli.run(Args, main)
