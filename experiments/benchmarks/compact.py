"""Size of a compact file and error of the network that it decodes to, beside a standard coder's.

``python -m experiments.benchmarks.compact RECORD.json ...`` rounds the compressed network beside each record to grids
that change its predictions on training images by at most so much, with and without training on these grids. It writes
each result as a compact file, as a safetensors file with xz, and, if ``nncodec`` is installed, by the standard coder
(ISO/IEC 15938-17). The grids are chosen on training images. Errors are those of the test images, or of the validation
images that the network's training held out: by them a tolerance is chosen.
"""

from __future__ import annotations

import importlib
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from pyro_vd.compress import choose_step_sizes, compressed_bytes, load, quantize, save, tune_on_grid
from pyro_vd.compress.compact import compact_bits
from pyro_vd.compress.grids import categorical_divergence
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.forms import find_factory, load_compressed, read_run
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.compression_tables import describe_training
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.images import load_images
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.common.tables import Table, group_by, percent, summary
from pyro_vd.metrics import compute_logits, error_rate

REQUIRED = ("benchmark", "network", "scheme", "training", "seed", "test_error", "nonzero", "bytes_float32", "rows")


@dataclass(frozen=True)
class Args:
    """Measures compact files of compressed networks."""

    records: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Records with their compressed networks beside them."""
    tolerances: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    """How much the predictions may change on training images, in nats."""
    images: int = 2000
    """Training images that decide the grids."""
    epochs: int = 2
    """Epochs of training on the grids; 0 leaves it out."""
    out: Path = Path("experiments/benchmarks/results/compact")


def main(args: Args) -> None:
    if len({path.name for path in args.records}) < max(1, len(args.records)):
        raise UserError("needs records of compressed networks, no two of the same name")
    for path in args.records:
        timing.publish({args.out / path.stem: measure(path, args)}, make_tables)


def measure(path: Path, args: Args) -> Record:
    """The compact files of the network of a record."""
    run = read_run(path)
    make = find_factory(run)
    net = load_compressed(run, make)
    validation = run.spec.data.validation
    split = load_images(Data(name=run.spec.data.name, validation=validation), make(), None)  # still images
    inputs, _ = split.train.batch(torch.arange(len(split.train)))
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    some = inputs[order[: args.images]]
    rows = []
    for tolerance in args.tolerances:
        steps = choose_step_sizes(net, some, tolerance)
        forms = {0: quantize(net, steps)}
        if args.epochs:
            forms[args.epochs] = tune_on_grid(net, steps, inputs, args.epochs)
        for epochs, form in forms.items():
            row = {"tolerance": tolerance, "epochs": epochs, **_measure_form(form, steps, make(), split.test)}
            rows.append({**row, "divergence": _measure_divergence(net, form, some), "step_sizes": steps})
    return {
        "benchmark": "compact",
        "network": run.spec.network,
        "scheme": run.spec.method,
        "training": describe_training(run),
        "seed": run.spec.seed,
        "validation": validation,
        "trained": path.name,
        "test_error": error_rate(compute_logits(net, split.test), split.test.labels),
        "nonzero": _count_nonzero(net),
        "bytes_float32": compressed_bytes(net),
        "images": args.images,
        "rows": rows,
        **environment(torch.device("cpu")),
    }


def _measure_form(form: nn.Module, steps: dict[str, float], fresh: nn.Module, test: Any) -> Record:
    """Sizes of the files, and the error of what the compact file decodes to."""
    with tempfile.TemporaryDirectory() as folder:
        size = save(form, Path(folder) / "net", steps, "compact")
        loaded = load(Path(folder) / "net", fresh)
    state = form.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    return {
        "bytes": size,
        "bound": compact_bits(form, steps) / 8,
        "bytes_xz": compressed_bytes(form, steps),
        "bytes_nncodec": measure_nncodec(form, steps),
        "nonzero": _count_nonzero(form),
        "test_error": error_rate(compute_logits(loaded, test), test.labels),
    }


def measure_nncodec(net: nn.Module, steps: dict[str, float]) -> int | None:
    """Bytes of the standard coder for the same integers, without their step sizes; None if it is not installed.

    The inputs that a layer selects are given as flags, which it codes in fewer bytes than indices.
    """
    try:
        nnc = importlib.import_module("nncodec.nnc")
    except ImportError:
        return None
    arrays = {name: _to_int32(name, tensor, steps) for name, tensor in net.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        file = str(Path(folder) / "net.nnc")
        sizes = [len(nnc.compress(arrays, file, row_skipping=skip, return_bitstream=True)) for skip in (False, True)]
        decoded = nnc.decompress(file)
    assert all(np.array_equal(decoded[name], array) for name, array in arrays.items())
    return min(sizes)


def _to_int32(name: str, tensor: Tensor, steps: dict[str, float]) -> np.ndarray:
    if name in steps:
        return (tensor / steps[name]).round().to(torch.int32).numpy()
    flags = np.zeros(int(tensor.max()) + 1, np.int32)
    flags[tensor.numpy()] = 1
    return flags


@torch.no_grad()
def _measure_divergence(net: nn.Module, form: nn.Module, inputs: Tensor) -> float:
    return categorical_divergence(net(inputs), form(inputs)).item()


def _count_nonzero(net: nn.Module) -> int:
    return sum(int(weight.count_nonzero()) for weight in net.parameters() if weight.ndim > 1)


def make_tables(records: Sequence[Record]) -> list[Table]:
    """The networks by number, and their files by tolerance, as means and standard deviations over seeds."""
    names, sizes = [], []
    for number, (key, group) in enumerate(group_networks(records).items(), start=1):
        error = percent([record["test_error"] for record in group])
        weights = summary([record["nonzero"] for record in group], "{:.0f}")
        names.append((str(number), *key, error, weights, str(len(group))))
        rows = group_by(
            [row for record in group for row in record["rows"]], lambda row: (row["tolerance"], row["epochs"])
        )
        sizes += [_make_row(str(number), *key, row) for key, row in sorted(rows.items())]
    header = ("#", "network", "scheme", "training", "error %", "non-zero", "n")
    columns = ("#", "nats", "epochs", "error %", "compact", "to bound", "xz", "nncodec", "n")
    title = "Bytes of the files, on grids that change the predictions on training images by so many nats"
    return [Table("The networks by number", header, tuple(names)), Table(title, columns, tuple(sizes))]


def group_networks(records: Sequence[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Network, scheme and training -> records, in the order of the table of networks."""
    return group_by(records, lambda record: (record["network"], record["scheme"], _describe(record)))


def _describe(record: Record) -> str:
    """The training, and whether the errors are those of held-out training images."""
    held = record.get("validation", 0)
    return record["training"] + (f"; {held:,} validation images" if held else "")


def _make_row(number: str, tolerance: float, epochs: int, rows: Sequence[Record]) -> tuple[str, ...]:
    standard = [row["bytes_nncodec"] for row in rows if row["bytes_nncodec"] is not None]
    return (
        number,
        f"{tolerance:g}",
        str(epochs),
        percent([row["test_error"] for row in rows]),
        summary([row["bytes"] for row in rows], "{:.0f}"),
        f"+{summary([100 * (row['bytes'] / row['bound'] - 1) for row in rows], '{:.1f}')} %",
        summary([row["bytes_xz"] for row in rows], "{:.0f}"),
        summary(standard, "{:.0f}"),
        str(len(rows)),
    )


if __name__ == "__main__":
    cli.run(Args, main)
