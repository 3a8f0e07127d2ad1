"""The rendered notebooks are those of the sources; that they run is the documentation's build."""

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
SOURCES = sorted((DOCS / "notebooks").glob("*.md"))


def test_every_notebook_is_rendered_and_linked():
    assert {path.stem for path in (DOCS / "rendered").iterdir()} == {path.stem for path in SOURCES}
    readme = (DOCS.parent / "README.md").read_text()
    assert len(SOURCES) == 5
    assert all(f"docs/rendered/{path.stem}.ipynb" in readme for path in SOURCES)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_rendered_notebook_is_of_its_source_and_has_its_pictures(source):
    code = re.findall(r"```\{code-cell\}.*?\n(.*?)```", source.read_text(), flags=re.DOTALL)
    notebook = json.loads((DOCS / "rendered" / f"{source.stem}.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]).strip() for cell in cells] == [part.strip() for part in code]
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert kinds
    assert "error" not in kinds
    pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])
    assert pictures == source.read_text().count("plt.subplots")
