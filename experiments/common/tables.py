"""Tables from records: mean, standard deviation and n, beside the published numbers of the same dataset only."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from experiments.common.published import Published, published_beside
from experiments.common.records import Record

__all__ = ["compression_table", "summary", "to_markdown"]

HEADER = ("network", "scheme", "error %", "compression", "n", "MC error %", "published", "what differs", "records")


def compression_table(records: Iterable[Record], folder: str = "") -> list[tuple[str, ...]]:
    """One row per (network, scheme, protocol, dataset), header first; a diverged run is counted, never averaged.

    With ``folder``, the records of a row are linked as files of that folder.
    """
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        key = (record["network"], record["scheme"], record["dataset"], record["protocol"], record["device"])
        groups.setdefault(key, []).append(record)
    return [HEADER, *(_row(group, folder) for group in groups.values())]


def to_markdown(table: Sequence[Sequence[str]]) -> str:
    """The table as GitHub Markdown, columns aligned so that it reads on a terminal too."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _row(group: list[Record], folder: str) -> tuple[str, ...]:
    first, good = group[0], [record for record in group if not record["diverged"]]
    diverged = len(group) - len(good)
    return (
        first["network"],
        first["scheme"],
        _percent([record["test_error"] for record in good]),
        _ratio([record["compression"] for record in good]),
        str(len(good)) + (f" (+{diverged} diverged)" if diverged else ""),
        _percent([record["test_error_mc"] for record in good]),
        "; ".join(_published(p) for p in published_beside(first) if p.scheme == first["scheme"]) or "-",
        _circumstances(first),
        ", ".join(_seed(record, folder) for record in group),
    )


def _seed(record: Record, folder: str) -> str:
    name = f"seed {record['seed']}"
    return f"[{name}]({folder}/{quote(record['file'])})" if folder else name


def _published(entry: Published) -> str:
    return f"{entry.compression:g}x at {100 * entry.error:.2f} % ({entry.kind})"


def _circumstances(record: Record) -> str:
    return f"{record['dataset']}, {record['epochs']} epochs, {record['device'].split(' (')[0]}, {record['protocol']}"


def _percent(values: list[float]) -> str:
    return summary([100 * value for value in values], "{:.2f}")


def _ratio(values: list[float | None]) -> str:
    if any(value is None for value in values):
        return "empty network"
    return summary([value for value in values if value is not None], "{:.1f}") + ("x" if values else "")


def summary(values: list[float], form: str) -> str:
    """Mean and, from two values on, standard deviation."""
    if not values:
        return "-"
    mean = form.format(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {form.format(statistics.stdev(values))}"
