"""Tables from records: mean, standard deviation and n, and published numbers of the same dataset only."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pyro_vd.experiments.common.published import Published, published_for
from pyro_vd.experiments.common.records import Record
from pyro_vd.files import write_atomically

__all__ = [
    "compression_table",
    "compression_tables",
    "count_runs",
    "deployment_table",
    "device_kind",
    "group_by",
    "linked_compression_table",
    "percent",
    "publish",
    "ratio",
    "summary",
    "to_markdown",
    "units",
]  # fmt: skip

Key = TypeVar("Key", bound=Hashable)

COMPRESSION_HEADER = (
    "network",
    "scheme",
    "error %",
    "compression",
    "n",
    "MC error %",
    "published",
    "what differs",
    "records",
)


BATCHES = ("1", "256")
FORMS = ("float32", "float16", "int8", "posterior + 1 bit", "posterior")
DEPLOYMENT_HEADER = (
    "network", "scheme", "protocol", "error %", "zeros", "zeros per layer %", "units (first seed)", "parameters",
    *(f"bytes, {form}" for form in FORMS), "times faster on a CPU, batch 1 and 256", "n", "trained on",
)  # fmt: skip


def compression_table(records: Iterable[Record], labels: Mapping[str, str] | None = None) -> list[tuple[str, ...]]:
    """One row per (network, scheme, protocol, dataset), header first; diverged runs are counted, not averaged.

    Args:
        labels: file of a record -> Markdown label of the link to it.
    """
    return [COMPRESSION_HEADER, *(_row(group, labels or {}) for group in _groups(records))]


def linked_compression_table(records: Sequence[Record], folder: str) -> str:
    """The compression table as Markdown, with a link to every record in ``folder``; the addresses follow the table."""
    mark = Path(folder).name
    labels = {record["file"]: f"{mark} {number}" for number, record in enumerate(records, start=1)}
    addresses = [f"[{label}]: {folder}/{quote(file)}" for file, label in labels.items()]
    return to_markdown(compression_table(records, labels)) + "\n\n" + "\n".join(addresses)


def deployment_table(records: Iterable[Record], timed: Iterable[Record] = ()) -> list[tuple[str, ...]]:
    """Compression ratios by non-zero weights, by parameters of the shrunk network, and by bytes of files.

    A ratio by bytes has the error of the network loaded from the file if that differs from the record's.

    Args:
        records: of an experiment in compression.
        timed: records of benchmarks.inference for some of them; one per group is enough.
    """
    good = [record for record in records if not record["diverged"] and "deployment" in record]
    times = {record["trained"]: record for record in timed}
    return [DEPLOYMENT_HEADER, *(_deployment_row(group, times) for group in _groups(good))]


def compression_tables(records: Sequence[Record]) -> str:
    """The tables that an experiment in compression prints: errors and ratios, then deployment cost."""
    return "\n\n".join(to_markdown(table(records)) for table in (compression_table, deployment_table))


def publish(text: str, out: Path, pictures: str = "") -> None:
    """Writes the tables to ``table.md`` in the folder and prints them; ``pictures`` names the pictures there."""
    write_atomically(out / "table.md", (text + "\n").encode())
    left = f"records, table.md and {pictures}" if pictures else "records and table.md"
    print(f"\n{text}\n\n{left}: {out}")


def units(architecture: dict[str, Sequence[int]]) -> str:
    """Units in the notation of the papers: outputs of all layers except the last, and the inputs of a linear layer if
    they are not the outputs of the layer before."""
    sizes = list(architecture.items())
    named: list[int] = []
    for index, (_, (inputs, outputs)) in enumerate(sizes):
        is_image = not index and inputs <= 4  # channels
        if not is_image and (not index or inputs != sizes[index - 1][1][1]):
            named.append(inputs)
        if index < len(sizes) - 1:
            named.append(outputs)
    return "-".join(map(str, named))


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    keys = ("network", "scheme", "dataset", "protocol")
    return list(group_by(records, lambda r: (*(r[key] for key in keys), device_kind(r))).values())


def _deployment_row(group: list[Record], times: dict[str, Record]) -> tuple[str, ...]:
    first = group[0]
    return (
        first["network"],
        first["scheme"],
        first["protocol"].removeprefix("variant of "),
        percent([record["test_error"] for record in group]),
        ratio([record["compression"] for record in group]),
        _per_layer(group),
        units(first["deployment"]["architecture"]),
        ratio([record["deployment"]["dense_parameters"] / record["deployment"]["parameters"] for record in group]),
        *(_form(group, form) for form in FORMS),
        _speedups([times[record["file"]] for record in group if _is_timed(record, times)], len(group)),
        str(len(group)),
        device_kind(first),
    )


def _per_layer(group: list[Record]) -> str:
    """Shares of zeros, averaged over seeds, in the order of the layers."""
    shares = [list(record["sparsity_per_layer"].values()) for record in group]
    return ", ".join(f"{100 * statistics.mean(layer):.1f}" for layer in zip(*shares, strict=True))


def _is_timed(record: Record, times: dict[str, Record]) -> bool:
    """Whether this network has been timed, at the batch sizes of the table."""
    timed = times.get(record["file"])
    same = timed and all(timed[key] == record[key] for key in ("test_error", "compression"))
    return bool(same) and timed["columns"]["shrunk"].keys() >= set(BATCHES)  # type: ignore[index]


def _speedups(timed: list[Record], networks: int) -> str:
    """Speedups of the shrunk networks by batch size, and how many of them were timed unless all were."""
    if not timed:
        return "-"
    ratios = [ratio([record["columns"]["shrunk"][size]["times_faster"] for record in timed]) for size in BATCHES]
    return ", ".join(ratios) + (f" ({len(timed)} of {networks})" if len(timed) < networks else "")


def _form(group: list[Record], form: str) -> str:
    found = [(r["test_error"], r["deployment"]["dense_bytes"], r["deployment"]["forms"].get(form)) for r in group]
    if not all(measured for _, _, measured in found):
        return "-"
    smaller = ratio([dense / measured["bytes"] for _, dense, measured in found])
    same = all(error == measured["test_error"] for error, _, measured in found)
    return smaller if same else f"{smaller} at {percent([measured['test_error'] for _, _, measured in found])} %"


def to_markdown(table: Sequence[Sequence[str]]) -> str:
    """The table as GitHub Markdown with aligned columns, readable on a terminal too. Escapes bars and line breaks."""
    table = [[" ".join(cell.replace("|", "\\|").splitlines()) for cell in row] for row in table]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _row(group: list[Record], labels: Mapping[str, str]) -> tuple[str, ...]:
    first, good = group[0], [record for record in group if not record["diverged"]]
    return (
        first["network"],
        first["scheme"],
        percent([record["test_error"] for record in good]),
        ratio([record["compression"] for record in good]),
        count_runs(group),
        percent([record["test_error_mc"] for record in good]),
        "; ".join(_published(p) for p in published_for(first) if p.scheme == first["scheme"]) or "-",
        _conditions(first),
        ", ".join(_seed(record, labels.get(record["file"])) for record in group),
    )


def _seed(record: Record, label: str | None) -> str:
    name = f"seed {record['seed']}"
    return f"[{name}][{label}]" if label else name


def _published(entry: Published) -> str:
    return f"{entry.compression:g}x at {100 * entry.error:.2f} % ({entry.kind})"


def _conditions(record: Record) -> str:
    return f"{record['dataset']}, {record['epochs']} epochs, {device_kind(record)}, {record['protocol']}"


def percent(values: list[float | None]) -> str:
    """Mean and standard deviation in percent; "-" if nothing was measured."""
    return summary([100 * value for value in values if value is not None], "{:.2f}")


def ratio(values: list[float | None]) -> str:
    """Mean and standard deviation of ratios; a value of None is that of an empty network."""
    if any(value is None for value in values):
        return "empty network"
    return summary([value for value in values if value is not None], "{:.1f}") + ("x" if values else "")


def group_by(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Key -> its records, in their order."""
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def device_kind(record: Record) -> str:
    """The device without details: results do not depend on the number of cores."""
    return record["device"].split(" (")[0]


def count_runs(group: Sequence[Record]) -> str:
    """Number of runs that finished, and of those that diverged."""
    diverged = sum(bool(record["diverged"]) for record in group)
    return str(len(group) - diverged) + (f" (+{diverged} diverged)" if diverged else "")


def summary(values: list[float], form: str) -> str:
    """Mean and, for two or more values, standard deviation; "-" for none."""
    if not values:
        return "-"
    mean = form.format(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {form.format(statistics.stdev(values))}"
