"""Tables on the terminal: no wider than it is, and key and value for a table of one row."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from pyro_vd.experiments.common.tables import Table

__all__ = ["show"]


def show(tables: Iterable[Table]) -> None:
    """Prints the tables on standard output."""
    console = Console(highlight=False)
    for table in tables:
        console.print()
        console.print(_make_key_value(table) if len(table.rows) == 1 else _make_grid(table))


def _make_grid(table: Table) -> RichTable:
    grid = RichTable(title=table.title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in table.header:
        grid.add_column(name, overflow="fold")
    for row in table.rows:
        grid.add_row(*row)
    return grid


def _make_key_value(table: Table) -> RichTable:
    grid = RichTable(title=table.title or None, title_justify="left", box=None, show_header=False, pad_edge=False)
    grid.add_column("name")
    grid.add_column("value", overflow="fold")
    for name, cell in zip(table.header, table.rows[0], strict=True):
        grid.add_row(name, cell)
    return grid
