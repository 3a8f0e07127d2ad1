"""What a compressed network gains in time: the same images through the network in every form, side by side.

``python -m benchmarks.inference --record experiments/results/mnist_compress/RECORD.json`` takes the compressed network
that stands beside the record, and measures the dense network, the same with as many zeros, the shrunk one, this with
sparse matrices of PyTorch and of SciPy, and dense and shrunk in onnxruntime, at batch sizes 1 and 256, in turns of one
run.
"""

from __future__ import annotations

import copy
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnxruntime
import scipy.sparse
import torch
from torch import Tensor, nn

from benchmarks import timing
from benchmarks.columns import Step
from experiments.common import cli
from experiments.common.records import Record, circumstances, place, read_records, write_record
from experiments.common.tables import to_markdown
from experiments.common.training import network_named
from pyro_vd import compress
from pyro_vd.errors import UserError

REQUIRED = ("benchmark", "network", "scheme", "rounds", "columns", "device", "threads", "torch", "revision")
DENSE, MASKED, SHRUNK, SPARSE, SCIPY = "dense", "masked", "shrunk", "sparse", "sparse, SciPy"
ONNX_DENSE, ONNX_SHRUNK = "ONNX, dense", "ONNX, shrunk"
Forward = Callable[[Tensor], object]


@dataclass(frozen=True)
class Args:
    """Times a compressed network's forward pass on a CPU."""

    record: Path
    """A record of mnist_compress or pruning_baselines, with its network beside it."""
    batches: tuple[int, ...] = (1, 256)
    rounds: int = 30
    """Turns of every column; medians over turns are reported."""
    turn: float = 0.1
    """About how many seconds a turn takes."""
    threads: int = 1
    """CPU threads; 0 leaves PyTorch's choice."""
    out: Path = Path("benchmarks/results/inference")


class SparseLinear(nn.Module):
    """A linear layer whose weight is a PyTorch matrix of compressed sparse rows."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            self.weight = layer.weight.detach().to_sparse_csr()
        self.bias = layer.bias
        self.selected = getattr(layer, "selected", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.selected is not None:
            x = x.index_select(-1, self.selected)
        products = self.products(x)
        return products if self.bias is None else products + self.bias

    def products(self, x: Tensor) -> Tensor:
        return (self.weight @ x.t()).t()


class SciPyLinear(SparseLinear):
    """The same with SciPy's matrix."""

    def __init__(self, layer: nn.Linear):
        super().__init__(layer)
        self.matrix = scipy.sparse.csr_array(layer.weight.detach().numpy())

    def products(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.matrix @ x.numpy().T).t()


def main(args: Args) -> None:
    if args.rounds < 2 or args.threads < 0 or not args.batches or min(args.batches) < 1:
        raise UserError("--rounds has to be at least 2, --batches at least 1, --threads at least 0")
    if args.threads:
        torch.set_num_threads(args.threads)
    record = measured(args)
    print(f"\n{inference_tables([record])}\n")
    path = args.out / args.record.name
    write_record(path, record)
    print(path)


@torch.no_grad()
def measured(args: Args) -> Record:
    """Milliseconds of every form at every batch size, with what it multiplies."""
    trained = next((r for r in read_records(args.record.parent) if r["file"] == args.record.name), None)
    if trained is None or "shipped" not in trained:
        raise UserError(f"{args.record}: no record of a compressed network; run its experiment again")
    make = network_named(trained["network"])
    dense = make().eval()
    small = compress.load(args.record.with_suffix(".safetensors.xz"), make()).eval()
    forms: dict[str, Forward] = {
        DENSE: dense,
        MASKED: masked(dense, trained["sparsity_per_layer"]),
        SHRUNK: small,
        SPARSE: as_sparse(small, SparseLinear),
        SCIPY: as_sparse(small, SciPyLinear),
        ONNX_DENSE: in_onnxruntime(dense, args.threads),
        ONNX_SHRUNK: in_onnxruntime(small, args.threads),
    }
    columns: dict[str, dict[str, Record]] = {name: {} for name in forms}
    for size in args.batches:
        images = torch.rand(size, *dense.input_shape)  # type: ignore[misc]
        steps: dict[str, Step] = {name: partial(_step, form) for name, form in forms.items()}
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
        "bytes": {DENSE: trained["shipped"]["dense_bytes"], SHRUNK: trained["shipped"]["forms"]["float32"]["bytes"]},
        "macs": {
            DENSE: macs(dense, images[:1]),
            MASKED: macs(dense, images[:1]),
            SHRUNK: macs(small, images[:1]),
            SPARSE: macs(small, images[:1], True),
            SCIPY: macs(small, images[:1], True),
        },
        "rounds": args.rounds,
        "columns": columns,
        **circumstances(torch.device("cpu")),
    }


def masked(net: nn.Module, sparsity: dict[str, float]) -> nn.Module:
    """A copy with zeros in the place of the smallest weights: so many as the compressed network has, and as little to
    gain from them as from any others."""
    scores = {site: net.get_parameter(site).detach().abs() for site in sparsity}
    masks = {site: compress.keep_largest({site: scores[site]}, share)[site] for site, share in sparsity.items()}
    return compress.prune(net, masks)


def as_sparse(net: nn.Module, kind: type[SparseLinear]) -> nn.Module:
    """A copy with sparse matrices in its linear layers; convolutions stay, for neither library has sparse ones."""
    sparse = copy.deepcopy(net)
    for name, layer in list(sparse.named_modules()):
        if isinstance(layer, nn.Linear):
            sparse.set_submodule(name, kind(layer))
    return sparse


def in_onnxruntime(net: nn.Module, threads: int) -> Forward:
    """The network as onnxruntime runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # into the turns of others
    with tempfile.TemporaryDirectory() as folder:
        compress.to_onnx(net, torch.rand(2, *net.input_shape), f"{folder}/net.onnx")  # type: ignore[misc]
        session = onnxruntime.InferenceSession(f"{folder}/net.onnx", options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.numpy()})


def macs(net: nn.Module, image: Tensor, sparse: bool = False) -> int:
    """Multiplications of one image's forward pass in linear and convolution layers; with ``sparse``, in linear ones by
    weights that are not 0."""
    counts: list[int] = []

    def count(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        positions = output[0].numel() // len(weight)
        counts.append(positions * (int(weight.count_nonzero()) if sparse and weight.ndim == 2 else weight.numel()))

    layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    net(image)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def inference_tables(records: Iterable[Record]) -> str:
    """A table per record: times by form and batch size, how many times faster than dense, multiplications, bytes."""
    return "\n\n".join(_table(record) for record in records)


def _table(record: Record) -> str:
    title = (
        f"{record['network']}, {record['scheme']}, {record['compression'] or math.inf:.0f}x fewer weights at "
        f"{100 * record['test_error']:.2f} % error, seed {record['seed']}, {place(record)}:"
    )
    sizes = list(next(iter(record["columns"].values())))
    header = ("form", "multiplications", "KiB", *(cell for size in sizes for cell in (f"batch {size}, us", "times")))
    rows = []
    for name, column in record["columns"].items():
        cells = [(f"{1e3 * column[size]['median_ms']:.1f}", f"{column[size]['times_faster']:.2f}x") for size in sizes]
        counted, size = record["macs"].get(name), record["bytes"].get(name)
        rows.append(
            (
                name,
                f"{counted:,}" if counted else "",
                f"{size / 1024:,.1f}" if size else "",
                *(cell for pair in cells for cell in pair),
            )
        )
    return f"{title}\n\n{to_markdown([header, *rows])}"


def _step(form: Forward, x: Tensor, y: Tensor) -> object:
    return form(x)


def _same(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch


if __name__ == "__main__":
    cli.run(Args, main)
