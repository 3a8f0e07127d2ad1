"""What an experiment says at its end: the tables, the files that it has written, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyro_vd.experiments.common.tables import Table
from pyro_vd.experiments.common.terminal import show
from pyro_vd.files import write_atomically

__all__ = ["publish"]


KINDS = {"pictures of runs": "*.png", "compressed networks": "*.safetensors.xz"}
"""Files that runs leave beside their records -> their pattern."""


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
