"""Speed and size of a compressed network in C, image by image, against PyTorch and onnxruntime in turns of one run.

``python -m experiments.benchmarks.c_code --record experiments/results/mnist_compress/RECORD.json`` loads the compressed
network beside the record, writes it with :func:`pyro_vd.compress.to_c`, compiles it with gcc, and times the dense and
the shrunk network in PyTorch and in onnxruntime beside it. All run on one thread, one image at a time, over the same
images. The loop over images is in C for the forms in C, otherwise in Python.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vd import compress
from pyro_vd.compress.c.values import ValuesName
from pyro_vd.data import LabeledImages, load
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.c_forms import FAST, PORTABLE, CForm, compile_form, name_compiler, needs_compiler
from pyro_vd.experiments.benchmarks.columns import Step
from pyro_vd.experiments.benchmarks.forms import find_factory, load_compressed, read_run
from pyro_vd.experiments.benchmarks.inference import check_same_data, load_data
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.compression_tables import describe_training
from pyro_vd.experiments.common.environment import environment, hardware
from pyro_vd.experiments.common.recognizer import KINDS as RECOGNIZER_KINDS
from pyro_vd.experiments.common.recognizer import RecognizerSpec, load_network, make_examples
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import KINDS
from pyro_vd.experiments.common.store import Run, Store
from pyro_vd.experiments.common.tables import Table
from pyro_vd.metrics import compute_logits, error_rate

REQUIRED = (
    "benchmark", "network", "scheme", "training", "compression", "seed", "images", "rounds", "columns", "compiler",
    "device", "threads", "torch", "revision",
)  # fmt: skip
C = "C"
C_FORMS: dict[str, tuple[ValuesName, tuple[str, ...]]] = {
    C: ("float32", FAST),
    "C, -O2": ("float32", PORTABLE),
    "C, float16": ("float16", FAST),
    "C, int8": ("int8", FAST),
}
"""Form -> type of the stored weights, and flags of gcc."""


@dataclass(frozen=True, kw_only=True)
class Args(timing.Turns):
    """Times a compressed network in C, image by image."""

    record: Path
    """A record of mnist_compress, pruning_baselines, compress or digit_recognizer, with its network beside it."""
    factory: str | None = None
    """package.module:function of a network of your own, as in its record."""
    dataset: str | None = None
    """The folder of its images, if its dataset is a folder."""
    images: int = 100
    """Number of different images, the first ones of the test set."""
    rounds: int = 100
    """Turns of every form; medians and minima over turns are reported."""
    turn: float = 0.005
    """Approximate seconds per turn."""
    threads: int = 1
    """CPU threads of PyTorch and onnxruntime; 0 leaves PyTorch's choice."""
    data: Path | None = None
    """Folder of the datasets; by default $PYRO_VD_DATA or the user's cache."""
    out: Path = Path("experiments/benchmarks/results/c_code")


@dataclass(frozen=True)
class Subject:
    """What is timed: a network before and after its compression, the images to time it on, and where it is from."""

    dense: nn.Module
    small: nn.Module
    test: LabeledImages
    facts: Record


def main(args: Args) -> None:
    cli.needs_onnx()
    needs_compiler()
    timing.check(args, images=args.images)
    cli.check_folder(args.out)
    timing.publish({args.out / args.record.stem: measure(args)}, make_tables)


@torch.no_grad()
def measure(args: Args) -> Record:
    """Times every form, with its error on the test set and its bytes."""
    subject = _read_subject(args)
    if args.images > len(subject.test):
        raise UserError(f"--images must be at most {len(subject.test):,}, the images of the test set")
    images, labels = subject.test.batch(torch.arange(args.images))
    with tempfile.TemporaryDirectory() as folder:
        compiled = _compile_forms(subject.small, images, Path(folder))
        steps = {name: timing.forward(form.run) for name, form in compiled.items()}
        steps |= _other_steps(subject.dense, subject.small, images, args.threads)
        times = timing.interleaved(steps, lambda: (images, labels), args.rounds, args.turn, most=1000)
        sizes = {name: _measure(form, subject.test) for name, form in compiled.items()}
    return {
        "benchmark": "c_code",
        **subject.facts,
        "trained": args.record.name,
        "images": args.images,
        "rounds": args.rounds,
        "columns": {name: _summarize(times, name, args.images) | sizes.get(name, {}) for name in steps},
        "compiler": name_compiler(),
        **environment(torch.device("cpu")),
    }


def _read_subject(args: Args) -> Subject:
    run = Store(args.record.parent, {**KINDS, **RECOGNIZER_KINDS}).read(args.record)
    if isinstance(run.spec, RecognizerSpec):
        return _read_recognizer(run, args.data)
    run = read_run(args.record)
    make = find_factory(run, args.factory)
    split = load_data(run, make(), args.dataset, args.data)
    facts = {
        "network": run.spec.network,
        "scheme": run.spec.method,
        "training": describe_training(run),
        **{key: run[key] for key in ("dataset", "test_error", "compression")},
        "seed": run.spec.seed,
    }
    return Subject(make(split.classes).eval(), load_compressed(run, make), split.test, facts)


def _read_recognizer(run: Run, folder: Path | None) -> Subject:
    """The network of a package, and the one of its compact file."""
    data, dense = load("mnist", folder), load_network().eval()
    check_same_data(run, data)
    _, test = make_examples(run.spec, data)
    facts = {
        "network": "digit-recognizer-py",
        "scheme": run.spec.scheme,
        "training": f"{run.spec.epochs} epochs",
        "dataset": "mnist",
        "test_error": run["error_compact"],
        "compression": run["compression"],
        "seed": run.spec.seed,
    }
    return Subject(dense, compress.load(run.beside(".pvd"), dense).eval(), LabeledImages(*test), facts)


def _compile_forms(small: nn.Module, images: Tensor, folder: Path) -> dict[str, CForm]:
    return {
        name: compile_form(small, images, folder / f"form{index}", flags, values)
        for index, (name, (values, flags)) in enumerate(C_FORMS.items())
    }


def _other_steps(dense: nn.Module, small: nn.Module, images: Tensor, threads: int) -> dict[str, Step]:
    """The same network in PyTorch and onnxruntime, which run the images one by one."""
    from pyro_vd.experiments.benchmarks import onnx_forms  # needs the extra onnx, which tables of records do not

    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "PyTorch, dense": dense,
        "PyTorch, shrunk": small,
        "onnxruntime, dense": onnx_forms.to_onnxruntime(dense, threads, 0, images).run,
        "onnxruntime, shrunk": onnx_forms.to_onnxruntime(small, threads, 0, images).run,
    }
    return {name: timing.forward(partial(_run_one_by_one, form)) for name, form in forms.items()}


def _run_one_by_one(form: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([form(image) for image in images.split(1)])


def _measure(form: CForm, test: LabeledImages) -> Record:
    """The error on the test set, and the bytes."""
    return {
        "error": error_rate(compute_logits(form.run, test), test.labels),
        "code_bytes": form.code_bytes,
        "table_bytes": form.table_bytes,
        "scratch_bytes": form.scratch_bytes,
    }


def _summarize(times: dict[str, list[float]], name: str, images: int) -> Record:
    """Microseconds per image, and how many times as long as the fastest form in C the form takes."""
    micro = [1e3 * value / images for value in times[name]]
    return {
        "median_us": statistics.median(micro),
        "interval_us": timing.median_interval(micro),
        "minimum_us": min(micro),
        "times_c": statistics.median(times[name]) / statistics.median(times[C]),
        "times_c_interval": timing.ratio_interval(times[name], times[C]),
    }


def make_tables(records: Iterable[Record]) -> list[Table]:
    """A table per record: times of every form, and error and bytes of those in C."""
    return [_make_table(record) for record in records]


def _make_table(record: Record) -> Table:
    title = (
        f"{record['network']}, {record['scheme']}, {record['compression']:.0f}x fewer weights, seed {record['seed']}, "
        f"image by image, {record['compiler']}, {hardware(record)}"
    )
    header = ("form", "µs", "95 %", "min", "/ C", "error %", "code, B", "tables, B", "scratch, B")
    return Table(title, header, tuple(_make_row(name, column) for name, column in record["columns"].items()))


def _make_row(name: str, column: Record) -> tuple[str, ...]:
    low, high = column["interval_us"]
    sizes = [f"{column[key]:,}" if key in column else "" for key in ("code_bytes", "table_bytes", "scratch_bytes")]
    return (
        name,
        _format_time(column["median_us"]),
        f"{_format_time(low)} to {_format_time(high)}",
        _format_time(column["minimum_us"]),
        f"{column['times_c']:.1f}",
        f"{100 * column['error']:.2f}" if "error" in column else "",
        *sizes,
    )


def _format_time(microseconds: float) -> str:
    """With three digits, or all that stand before the point."""
    return f"{microseconds:.{2 if microseconds < 10 else 1 if microseconds < 100 else 0}f}"


if __name__ == "__main__":
    cli.run(Args, main)
