"""What an experiment says at its end: the tables, the files that it has written, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyro_vd.experiments.common.tables import Table
from pyro_vd.experiments.common.terminal import show
from pyro_vd.files import write_atomically

__all__ = ["publish"]


def publish(tables: Sequence[Table], out: Path, *pictures: str, next_step: str = "") -> None:
    """Prints the tables and writes them to ``table.md`` in the folder.

    Args:
        tables: of the results.
        out: folder of the records.
        pictures: names of the pictures there.
        next_step: a command that shows more.
    """
    text = "\n\n".join(table.markdown() for table in tables)
    write_atomically(out / "table.md", (text + "\n").encode())
    show(tables)
    written = ", ".join(["records", "table.md", *(name for name in pictures if (out / name).is_file())])
    print(f"\nwritten to {out}: {written}" + (f"; more: {next_step}" if next_step else ""))
