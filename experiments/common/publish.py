"""What an experiment says at its end: the tables, the files that it has written, and what to do next.

Tables are no wider than the terminal, and one of a single row is shown by key and value. A pipe or a file has no width:
there a row of a table is a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from pyro_vd.experiments.common.tables import Table
from pyro_vd.files import write_atomically

__all__ = ["publish", "show"]

KINDS = {"pictures of runs": "*.png", "compressed networks": "*.safetensors.xz"}
"""Files that runs leave beside their records -> their pattern."""
WIDTH_OF_FILES = 10_000  # characters
ROW_NUMBER = "#"  # header of the column that other tables refer to


def publish(tables: Sequence[Table], out: Path, *pictures: str, notes: Sequence[str] = (), next_step: str = "") -> None:
    """Prints the tables and writes them to ``table.md`` in the folder.

    Args:
        tables: of the results.
        out: folder of the records.
        pictures: names of the pictures there.
        notes: what the tables do not say; a line each.
        next_step: a command that shows more.
    """
    text = "\n\n".join(table.markdown() for table in tables)
    write_atomically(out / "table.md", (text + "\n").encode())
    show(tables)
    print(*("", *(f"note: {note}" for note in notes)), sep="\n")
    written = ["records", "table.md", *(name for name in pictures if (out / name).is_file())]
    for kind, pattern in KINDS.items():
        if {path.name for path in out.glob(pattern)} - set(pictures):
            written.append(f"{kind} ({pattern})")
    print(f"written to {out}: {', '.join(written)}" + (f"; more: {next_step}" if next_step else ""))


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
