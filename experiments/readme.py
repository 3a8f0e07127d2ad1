"""Writes the README's tables and picture from the committed records and from guides.SCHEMES.

``python -m experiments.readme`` rewrites what stands between the README's markers and draws curves.png beside the
records; ``--check`` changes nothing and fails where the README differs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import guides
from experiments.common import cli, pictures
from experiments.common.records import read_records
from experiments.common.tables import compression_table, to_markdown
from pyro_vd.checkpoint import write_atomically
from pyro_vd.errors import UserError

ROOT = Path(__file__).parent.parent
RESULTS = "experiments/results/mnist_compress"


@dataclass(frozen=True)
class Args:
    """Rewrites the README's generated blocks."""

    check: bool = False
    """Change nothing; fail where the README differs from the records."""


def main(args: Args) -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    fresh = filled(text)
    if args.check and fresh != text:
        raise UserError("README.md differs from the records; run python -m experiments.readme")
    if not args.check:
        write_atomically(path, fresh.encode())
        pictures.draw_curves(read_records(ROOT / RESULTS), ROOT / RESULTS / "curves.png")


def filled(text: str) -> str:
    """``text`` with every generated block replaced.

    Raises:
        UserError: where a block has no marker to stand between.
    """
    for name, table in {"compression": compression(), "schemes": schemes()}.items():
        block = f"<!-- {name}: python -m experiments.readme -->\n{table}\n<!-- end -->"
        pattern = rf"<!-- {name}: [^>]*-->.*?<!-- end -->"
        if not re.search(pattern, text, flags=re.DOTALL):
            raise UserError(f"README.md has no block <!-- {name}: ... --> ... <!-- end -->")
        text = re.sub(pattern, block.replace("\\", r"\\"), text, count=1, flags=re.DOTALL)
    return text


def compression() -> str:
    """The compression table of the committed records."""
    return to_markdown(compression_table(read_records(ROOT / RESULTS), RESULTS))


def schemes() -> str:
    """One row per scheme: what its module says of itself, its own prior, its file."""
    rows = [("scheme", "what it is", "its prior")]
    for name, module in guides.SCHEMES.items():
        summary = (module.__doc__ or "").strip().splitlines()[0].rstrip(".")
        rows.append((f"[`{name}`](guides/{name}.py)", summary, f"`{module.prior.__name__}`"))
    return to_markdown(rows)


if __name__ == "__main__":
    cli.run(Args, main)
