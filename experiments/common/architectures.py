"""Units of compressed LeNet-5s, ours and published, and the multiplications that remain, which decide the speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyro_vd.experiments.common.published import LENET5_UNITS, Architecture
from pyro_vd.experiments.common.records import Record
from pyro_vd.experiments.common.tables import device_kind, units

__all__ = ["architecture_table", "multiplications"]

HEADER = ("scheme", "protocol", "units", "fewer multiplications", "error %", "source")
POSITIONS = (25 * 24 * 24, 25 * 8 * 8, 1, 1)  # products of one weight's kernel with a 28x28 image, layer by layer


def architecture_table(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """Header, a row for every shrunk LeNet-5 on MNIST, and the published ones."""
    found = [record for record in records if (record["network"], record["dataset"]) == ("lenet5", "mnist")]
    return [HEADER, *(_row(record) for record in found if "deployment" in record), *map(_published, LENET5_UNITS)]


def multiplications(layers: Iterable[Sequence[int]]) -> int:
    """Multiplications of one 28x28 image in a LeNet-5 with these (inputs, outputs) of its four layers, zeros included.

    Example:
        >>> multiplications([(1, 20), (20, 50), (800, 500), (500, 10)])
        2293000
    """
    return sum(each * inputs * outputs for each, (inputs, outputs) in zip(POSITIONS, layers, strict=True))


def _row(record: Record) -> tuple[str, ...]:
    sizes = record["deployment"]["architecture"]
    source = f"seed {record['seed']}, {device_kind(record)}"
    protocol = record["protocol"].removeprefix("variant of ")
    error = f"{100 * record['test_error']:.2f}"
    return (record["scheme"], protocol, units(sizes), _fewer(sizes.values()), error, source)


def _published(entry: Architecture) -> tuple[str, ...]:
    written = "-".join(map(str, entry.units))
    return (entry.method, "published", written, _fewer(_layers(entry.units)), f"{100 * entry.error:.2g}", entry.source)


def _layers(sizes: Sequence[int]) -> list[tuple[int, int]]:
    first, second, inputs, hidden = sizes
    seen = min(inputs, 4 * 4 * second)  # papers count inputs from removed filters, which are not multiplied
    return [(1, first), (first, second), (seen, hidden), (hidden, 10)]


def _fewer(layers: Iterable[Sequence[int]]) -> str:
    return f"{multiplications(_layers((20, 50, 800, 500))) / multiplications(layers):.1f}x"
