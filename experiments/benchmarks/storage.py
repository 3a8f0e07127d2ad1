"""Size of a compressed network's file by coding.

``python -m experiments.benchmarks.storage RECORD.json ...`` loads the compressed network beside each record of
mnist_compress, pruning_baselines or, with ``--factory``, compress, and writes it with every zero, as compressed sparse
rows, and with gaps between weights, each with and without xz.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
import tyro
from torch import Tensor, nn

from pyro_vd.compress.storage import compress_xz, to_safetensors_bytes
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks import timing
from pyro_vd.experiments.benchmarks.forms import find_factory, load_compressed, read_run, to_csr
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.compression_tables import describe_training
from pyro_vd.experiments.common.environment import environment
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import Table

REQUIRED = ("benchmark", "network", "scheme", "training", "seed", "weights", "nonzero", "dense_bytes", "bytes", "bits")
GRID = "posterior + 1 bit"
# Coding -> its name in the table.
CODINGS = {
    "zeros written": "zeros",
    "sparse rows": "rows",
    "gaps": "gaps",
    "zeros written, xz": "zeros, xz",
    "sparse rows, xz": "rows, xz",
    "gaps, xz": "gaps, xz",
}


@dataclass(frozen=True)
class Args:
    """Measures the files of compressed networks."""

    records: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Records of mnist_compress, pruning_baselines or compress, with their networks beside them."""
    factory: str | None = None
    """package.module:function of a network of your own, as in its record."""
    out: Path = Path("experiments/benchmarks/results/storage")


def main(args: Args) -> None:
    if len({path.name for path in args.records}) < max(1, len(args.records)):
        raise UserError("needs records of compressed networks, no two of the same name")
    timing.publish({args.out / path.stem: measure(path, args.factory) for path in args.records}, make_tables)


def measure(path: Path, factory: str | None = None) -> Record:
    """Measures the network of a record in every lossless coding, and counts its non-zero weights."""
    run = read_run(path)
    small = load_compressed(run, find_factory(run, factory))
    whole, rows = to_safetensors_bytes(small), safetensors.torch.save(sparse_rows(small))
    gaps_xz = run.beside(".safetensors.xz").read_bytes()
    files = {
        "zeros written": whole,
        "sparse rows": rows,
        "gaps": lzma.decompress(gaps_xz),
        "zeros written, xz": compress_xz(whole),
        "sparse rows, xz": compress_xz(rows),
        "gaps, xz": gaps_xz,
    }
    return {
        "benchmark": "storage",
        "network": run.spec.network,
        "scheme": run.spec.method,
        "training": describe_training(run),
        "seed": run.spec.seed,
        "test_error": run["test_error"],
        "weights": run["weights"],
        "trained": path.name,
        "nonzero": sum(int(weight.count_nonzero()) for weight in small.parameters() if weight.ndim > 1),
        "dense_bytes": run["deployment"]["dense_bytes"],
        "bytes": {name: len(content) for name, content in files.items()},
        "bits": run["deployment"]["forms"].get(GRID, {}).get("bits"),
        **environment(torch.device("cpu")),
    }


def sparse_rows(net: nn.Module) -> dict[str, Tensor]:
    """The tensors of the network, its weights as compressed sparse rows with 32-bit indices; a filter is a row."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        if tensor.ndim < 2:
            tensors[name] = tensor.contiguous()
            continue
        rows = to_csr(tensor.flatten(1))
        tensors[f"{name}.values"] = rows.values()
        tensors[f"{name}.columns"], tensors[f"{name}.starts"] = rows.col_indices().int(), rows.crow_indices().int()
    return tensors


def make_tables(records: Sequence[Record]) -> list[Table]:
    """The networks by number, and compression ratios against the dense network's safetensors file by coding."""
    numbered = [(str(number), record) for number, record in enumerate(records, start=1)]
    names = [(n, *(str(record[key]) for key in ("network", "scheme", "training", "seed"))) for n, record in numbered]
    title = f"Bytes of the dense file / bytes of the compressed file, and bits by layer of the grid {GRID!r}"
    return [
        Table("The networks by number", ("#", "network", "scheme", "training", "seed"), tuple(names)),
        Table(title, ("#", "weights / non-zero", *CODINGS.values(), "bits"), tuple(_make_row(*it) for it in numbered)),
    ]


def _make_row(number: str, record: Record) -> tuple[str, ...]:
    return (
        number,
        f"{record['weights'] / record['nonzero']:.1f}x" if record["nonzero"] else "empty network",
        *(f"{record['dense_bytes'] / record['bytes'][coding]:.1f}x" for coding in CODINGS),
        ", ".join(map(str, (record["bits"] or {}).values())) or "-",
    )


if __name__ == "__main__":
    cli.run(Args, main)
