"""Compares the outputs in the notebooks with those of the last build.

    sphinx-build -W -b html docs build/html
    python docs/check_notebooks.py build/jupyter_execute
    python docs/check_notebooks.py build/jupyter_execute --write

The second command fails if a notebook was changed, or if the code that it runs was, and
its outputs were not: other cells, another kind of output, or other printed text.
Numbers and warnings are not compared, because they depend on the machine and on the
versions of other packages. The last command keeps the outputs of the build in the
notebooks.
"""

import json
import re
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).parent / "notebooks"
NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?|\binf\b")


def read_build(path: Path) -> dict:
    """The executed notebook, with one stream of each name in a cell.

    The build merges all streams of a name into the first and leaves the others there.
    """
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        outputs = cell["outputs"]
        names = [output.get("name") for output in outputs]
        cell["outputs"] = [
            output
            for place, output in enumerate(outputs)
            if names[place] is None or names[place] not in names[:place]
        ]
    return notebook


def outline(notebook: dict) -> list[tuple[str, list[str], str]]:
    """Of every code cell: its code, the kinds of its outputs, and its printed text."""
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            outputs = cell["outputs"]
            kinds = {kind for output in outputs for kind in output.get("data", {})}
            printed = (
                "".join(output["text"])
                for output in outputs
                if output.get("name") == "stdout"
            )
            words = " ".join(NUMBER.sub("#", "".join(printed)).split())
            found.append(("".join(cell["source"]), sorted(kinds), words))
    return found


def difference(kept: dict, executed: dict) -> str:
    """The first difference between the outlines, or an empty string."""
    before, after = outline(kept), outline(executed)
    if len(before) != len(after):
        return f"{len(before)} code cells, {len(after)} in the build"
    for number, (old, new) in enumerate(zip(before, after), start=1):
        for what, one, other in zip(("code", "kinds of output", "text"), old, new):
            if one != other:
                return f"code cell {number}: {what}\n  kept:  {one}\n  build: {other}"
    return ""


def keep_outputs(path: Path, executed: dict) -> None:
    """Writes the outputs of the build into the notebook, without their times."""
    notebook = json.loads(path.read_text())
    outputs = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, made in zip(cells, outputs, strict=True):
        cell["outputs"] = made["outputs"]
        cell["execution_count"] = made["execution_count"]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def main(folder: str, write: bool) -> None:
    problems = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        executed = read_build(Path(folder) / "notebooks" / path.name)
        if write:
            keep_outputs(path, executed)
        elif problem := difference(json.loads(path.read_text()), executed):
            problems.append(f"{path.name}: {problem}")
    if problems:
        advice = "run the build again and keep its outputs with --write"
        raise SystemExit("\n".join([*problems, advice]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] == ["--write"])
