"""Tables: a title, a header and rows of text, as Markdown for pages and as text for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pyro_vd.experiments.common.store import Run

__all__ = ["PAGE_WIDTH", "Table", "count_runs", "group_by", "percent", "ratio", "summary"]

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
PAGE_WIDTH = 110
"""Characters of the widest table in a page."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: one line; may be empty.
        header: names of the columns.
        rows: cells, as many as the header has.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The title and the table in GitHub's Markdown with aligned columns; bars and line breaks are escaped."""
        table = [[" ".join(cell.replace("|", "\\|").splitlines()) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.header))]
        lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in table]
        lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
        return "\n".join([*([f"{self.title}:", ""] if self.title else []), *lines])


def percent(values: Iterable[float | None], form: str = "{:.2f}") -> str:
    """Mean and standard deviation in percent of fractions; "-" if nothing was measured."""
    return summary([100 * value for value in values if value is not None], form)


def ratio(values: Sequence[float | None]) -> str:
    """Mean and standard deviation of ratios; a value of None is that of an empty network."""
    if any(value is None for value in values):
        return "empty network"
    return summary([value for value in values if value is not None], "{:.1f}") + ("x" if values else "")


def summary(values: Sequence[float], form: str) -> str:
    """Mean and, for two or more values, standard deviation; "-" for none."""
    if not values:
        return "-"
    mean = form.format(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {form.format(statistics.stdev(values))}"


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Key -> its items, in their order."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def count_runs(runs: Sequence[Run]) -> str:
    """Number of runs that finished, and of those that diverged."""
    diverged = sum(run.diverged for run in runs)
    return str(len(runs) - diverged) + (f" (+{diverged} diverged)" if diverged else "")
