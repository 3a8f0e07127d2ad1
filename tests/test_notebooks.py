"""The notebooks hold the outputs of their code; the build of the documentation checks that they run."""

import copy
import json
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
CHECK = runpy.run_path(str(DOCS / "check_notebooks.py"))


def code_cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_is_on_the_page_of_notebooks():
    page = (DOCS / "notebooks" / "index.md").read_text()
    assert len(NOTEBOOKS) == 5
    assert all(f"({path.name})" in page for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_executed_from_top_to_bottom_and_has_its_pictures(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in outputs}
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert pictures == sum("".join(cell["source"]).count("plt.subplots") for cell in cells)


def notebook(text, code="print(x)", kind="text/plain"):
    stream = {"output_type": "stream", "name": "stdout", "text": text}
    picture = {"output_type": "display_data", "data": {kind: ""}}
    cell = {"cell_type": "code", "source": code, "outputs": [stream, picture], "execution_count": 1}
    return {"cells": [{"cell_type": "markdown", "source": "x"}, cell]}


@pytest.mark.parametrize(
    ("executed", "word"),
    [
        (notebook("error 3 %"), ""),
        (notebook("error   -0.52e-3 %\n"), ""),
        (notebook(["err", "or 3 %"]), ""),
        (notebook("accuracy 2 %"), "text"),
        (notebook("error 2 %", code="print(y)"), "code"),
        (notebook("error 2 %", kind="image/png"), "kinds of output"),
        ({"cells": []}, "1 code cells, 0"),
    ],
)
def test_the_check_finds_all_differences_but_numbers(executed, word):
    found = CHECK["difference"](notebook("error 2 %"), executed)
    assert word in found
    assert bool(found) == bool(word)


def test_streams_that_the_build_has_merged_are_read_once(tmp_path):
    path = tmp_path / "one.ipynb"
    executed = notebook("error 2 %\naccuracy 98 %")
    executed["cells"][1]["outputs"].insert(1, {"output_type": "stream", "name": "stdout", "text": "accuracy 98 %"})
    path.write_text(json.dumps(executed))
    assert not CHECK["difference"](notebook("error 2 %\naccuracy 98 %"), CHECK["read_build"](path))
    assert CHECK["difference"](notebook("error 2 %"), CHECK["read_build"](path))


def test_the_check_does_not_compare_warnings():
    executed = notebook("error 2 %")
    executed["cells"][1]["outputs"].append({"output_type": "stream", "name": "stderr", "text": "FutureWarning"})
    assert not CHECK["difference"](notebook("error 2 %"), executed)


def test_the_check_keeps_the_outputs_of_a_build(tmp_path):
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps(notebook("error 2 %")))
    executed = notebook("accuracy 2 %")
    executed["cells"][1]["metadata"] = {"execution": {"started": "now"}}
    CHECK["keep_outputs"](path, copy.deepcopy(executed))
    kept = json.loads(path.read_text())
    assert not CHECK["difference"](kept, executed)
    assert "metadata" not in kept["cells"][1]
