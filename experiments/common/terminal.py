"""Tables on the terminal: no wider than it is, and key and value for a table of one row.

A pipe or a file has no width: there a row of a table is a line.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from pyro_vd.experiments.common.tables import Table

__all__ = ["show"]

WIDTH_OF_FILES = 10_000  # characters
ROW_NUMBER = "#"  # header of the column that other tables refer to


def show(tables: Iterable[Table]) -> None:
    """Prints the tables on standard output."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    for table in tables:
        console.print()
        if table.title:
            console.print(f"{table.title}:")
        console.print(_make_key_value(table) if len(table.rows) == 1 else _make_grid(table))


def _make_grid(table: Table) -> RichTable:
    grid = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in table.header:
        grid.add_column(name, overflow="fold")
    for row in table.rows:
        grid.add_row(*row)
    return grid


def _make_key_value(table: Table) -> RichTable:
    grid = RichTable(box=None, show_header=False, pad_edge=False)
    grid.add_column("name", overflow="fold")
    grid.add_column("value", overflow="fold")
    for name, cell in zip(table.header, table.rows[0], strict=True):
        if name != ROW_NUMBER:
            grid.add_row(name, cell)
    return grid
