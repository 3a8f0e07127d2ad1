"""Size of a compressed network's file by coding.

``python -m experiments.benchmarks.storage RECORD.json ...`` loads the compressed network beside each record of
mnist_compress, pruning_baselines or, with ``--factory``, compress, and writes it with every zero, as compressed sparse
rows, and with gaps between weights, each with and without xz.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
import tyro
from torch import Tensor, nn

from pyro_vd.compress.storage import compress_xz, to_safetensors_bytes
from pyro_vd.errors import UserError
from pyro_vd.experiments.benchmarks.compressed import find_factory, load_compressed, read_compressed_record
from pyro_vd.experiments.benchmarks.forms import to_csr
from pyro_vd.experiments.common import cli
from pyro_vd.experiments.common.records import Record, environment, write_record
from pyro_vd.experiments.common.tables import to_markdown

REQUIRED = ("benchmark", "network", "scheme", "seed", "weights", "nonzero", "dense_bytes", "bytes", "bits")
GRID = "posterior + 1 bit"


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
    measurements = {path.name: measure(path, args.factory) for path in args.records}
    for name, measurement in measurements.items():
        write_record(args.out / name, measurement)
    print(to_markdown(storage_table(measurements.values())) + f"\n\n{args.out}")


def measure(path: Path, factory: str | None = None) -> Record:
    """Measures the network of a record in every lossless coding, and counts its non-zero weights."""
    trained = read_compressed_record(path)
    small = load_compressed(path, find_factory(trained, factory))
    whole, rows = to_safetensors_bytes(small), safetensors.torch.save(sparse_rows(small))
    gaps_xz = path.with_suffix(".safetensors.xz").read_bytes()
    codings = {"zeros written": whole, "sparse rows": rows, "gaps": lzma.decompress(gaps_xz)}
    packed = {f"{name}, xz": compress_xz(content) for name, content in codings.items() if name != "gaps"}
    files = codings | packed | {"gaps, xz": gaps_xz}
    return {
        "benchmark": "storage",
        **{key: trained[key] for key in ("network", "scheme", "protocol", "seed", "test_error", "weights")},
        "trained": path.name,
        "nonzero": sum(int(weight.count_nonzero()) for weight in small.parameters() if weight.ndim > 1),
        "dense_bytes": trained["deployment"]["dense_bytes"],
        "bytes": {name: len(content) for name, content in files.items()},
        "bits": trained["deployment"]["forms"].get(GRID, {}).get("bits"),
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


def storage_table(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """Compression ratios against the dense network's safetensors file by coding, header first."""
    records = list(records)
    codings = list(records[0]["bytes"]) if records else []
    header = ("network", "scheme", "seed", "weights / non-zero ones", *codings, f"bits by layer, {GRID}")
    return [header, *(_row(record, codings) for record in records)]


def _row(record: Record, codings: list[str]) -> tuple[str, ...]:
    protocol = record["protocol"].removeprefix("variant of ")
    return (
        record["network"],
        f"{record['scheme']}, {protocol}",
        str(record["seed"]),
        f"{record['weights'] / record['nonzero']:.1f}x" if record["nonzero"] else "empty network",
        *(f"{record['dense_bytes'] / record['bytes'][coding]:.1f}x" for coding in codings),
        ", ".join(map(str, (record["bits"] or {}).values())) or "-",
    )


if __name__ == "__main__":
    cli.run(Args, main)
