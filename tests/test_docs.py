"""The pages under docs/: what a reader must see whole, and what must not fall behind the code."""

import inspect
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from torch import nn

from pyro_vd import guides
from pyro_vd.compress.c.elementwise import EXPRESSIONS
from pyro_vd.compress.c.readers import ALIASES, READERS
from pyro_vd.compress.rules.functions import FUNCTION_RULES
from pyro_vd.compress.rules.modules import MODULE_RULES
from pyro_vd.compress.transformer_forward import TRACEABLE

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WIDTH = 88
FENCE = re.compile(r"^ *```(\S*)[^\n]*\n(.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)


def name_of_page(path):
    return str(path.relative_to(DOCS))


@pytest.mark.parametrize("page", PAGES, ids=name_of_page)
def test_no_code_of_a_page_is_cut(page):
    blocks = [block for kind, block in FENCE.findall(page.read_text()) if not kind.startswith("{")]  # a directive
    lines = "\n".join(blocks).splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("notebook", sorted(DOCS.rglob("*.ipynb")), ids=name_of_page)
def test_no_code_of_a_notebook_is_cut(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert [line for line in code.splitlines() if len(line) > WIDTH] == []


def test_every_page_of_the_reference_begins_with_its_summary():
    documented = [page for page in (DOCS / "reference").glob("*.md") if ".. auto" in page.read_text()]
    assert len(documented) >= 10
    for page in documented:
        text = page.read_text()
        assert text.count("\n{summary}\n") == 1, page.name
        assert "\n## " not in text.partition("\n{summary}\n")[0], page.name


def test_the_summary_lists_what_a_page_documents():
    add_summary = runpy.run_path(str(DOCS / "_ext" / "summary.py"))["add_summary"]
    names = ".. autofunction:: pyro_vd.lift\n\n.. autoclass:: pyro_vd.guides.none.Guide\n   :members:\n"
    source = [f"# Page\n\n{{summary}}\n\n{names}"]
    add_summary(None, "page", source)
    assert "{summary}" not in source[0]
    table = source[0].partition("autosummary::")[2].partition("```")[0]
    assert table.split() == [":nosignatures:", "pyro_vd.lift", "pyro_vd.guides.none"]


def test_the_front_page_lists_the_parts_as_the_sidebar_does():
    """In its order and by its names."""
    front = (DOCS / "index.md").read_text()
    linked = re.findall(r"^\d\. \[(.+)\]\((\w+/index)\.md\)", front, flags=re.MULTILINE)
    sidebar = re.search(r"```\{toctree\}\n.*?\n\n(.*?)\n```", front, flags=re.DOTALL)[1].split()
    assert [page for _, page in linked] == [page for page in sidebar if page != "changelog"]
    for name, page in linked:
        assert (DOCS / f"{page}.md").read_text().startswith(f"# {name}\n")


def test_names_in_tables_do_not_break():
    assert re.search(
        r"table\.docutils td code[^{]*\{[^}]*white-space: nowrap", (DOCS / "_static/pages.css").read_text()
    )


def test_the_end_of_a_doctest_is_trimmed_and_nothing_else():
    trim = runpy.run_path(str(DOCS / "_ext" / "doctest_end.py"))["trim"]
    rest = "text\n\n```\npip\n```\n\n```python\n>>> x\n```\n"
    source = [f"```python\n>>> a\n\n>>> b\n2\n\n```\n\n{rest}"]
    trim(None, "page", source)
    assert source == [f"```python\n>>> a\n\n>>> b\n2\n```\n\n{rest}"]


def test_the_page_of_the_command_line_has_the_help_that_the_command_prints():
    before = list(sys.argv), list(sys.path)
    help_of = runpy.run_path(str(DOCS / "_ext" / "command_line.py"))["help_of"]
    for name in ("mnist_compress", "benchmarks.storage"):  # the second has a usage that tyro does not fold
        text = help_of(name)
        assert text.startswith(f"usage: pyro-vd {name}")
        assert "--out PATH" in text
        assert max(map(len, text.splitlines())) <= WIDTH
    assert (list(sys.argv), list(sys.path)) == before


def test_the_page_of_priors_has_what_each_scheme_takes():
    describe = runpy.run_path(str(DOCS / "_ext" / "prior_table.py"))["describe"]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", describe(), flags=re.MULTILINE))
    assert rows.keys() == guides.SCHEMES.keys()
    assert all('`LogUniform("molchanov")`' in rows[name] for name in ("sparse", "hierarchical"))
    assert '`LogUniform("kingma")`' in rows["variational_b"]
    assert '`LogUniform("kingma")`' not in rows["sparse"]  # its alpha may be above 1
    assert "`Horseshoe`" in rows["sparse"].partition("|")[2]
    assert rows["l0"].strip(" |") == "`L0`"


def test_the_page_of_noise_types_has_every_scheme():
    page = (DOCS / "explanation" / "noise_types.md").read_text()
    rows = re.findall(r"^\| (?:A|B|both)\b.*$", page, flags=re.MULTILINE)
    named = re.findall(r"`(\w+)`", "".join(rows))
    assert sorted(named) == sorted(guides.SCHEMES.keys() - {"none", "ard"})


def test_the_picture_of_local_reparameterization_can_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    script = runpy.run_path(str(DOCS / "explanation" / "pictures" / "local_reparameterization.py"))
    script["draw"].__globals__.update(DRAWS=10)
    script["draw"](tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_of_to_c_names_all_that_it_knows_and_nothing_else():
    page = (DOCS / "reference" / "compress.md").read_text().partition("### What `to_c` knows")[2].partition("\n## ")[0]
    page = re.sub(r"`(\w+)Nd`", r"`\g<1>1d`, `\g<1>2d`", page)
    named = set(re.findall(r"`(\w+)`", page)) - {"to_c", "Softsign", "Hardshrink"}
    inside = {name for name in (*READERS, *ALIASES) if name.startswith("_") or name.endswith("_with_indices")}
    inside |= {"lift_fresh_copy"}
    assert named == ({*READERS, *EXPRESSIONS, *ALIASES} - inside) - {"gelu, tanh"}


def test_the_page_of_shrink_names_all_that_it_knows_and_nothing_else():
    page = (
        (DOCS / "reference" / "compress.md").read_text().partition("### What `shrink` knows")[2].partition("\n## ")[0]
    )
    page = re.sub(r"`(\w+)Nd`", r"`\g<1>1d`, `\g<1>2d`, `\g<1>3d`", page)
    layers, functions = page.partition("Layers of `torch.nn`:")[2].split("Functions and methods:")
    types = tuple(kind for kinds in MODULE_RULES for kind in kinds)
    known = {name for name, value in vars(nn).items() if inspect.isclass(value) and issubclass(value, types)}
    split = {"LSTM", "GRU", "RNN", "MultiheadAttention"} | {kind.__name__ for kind in TRACEABLE}
    named = set(re.findall(r"`([A-Z]\w+)`", layers))
    assert named == split | {name for name in known if not name.startswith("Lazy")}
    operators = {"floordiv", "getitem", "iadd", "imul", "isub", "itruediv", "mod", "truediv"}
    inside = {name for name in FUNCTION_RULES if name.endswith("_with_indices")}  # what torch calls a pool inside
    assert set(re.findall(r"`(\w+)`", functions)) == FUNCTION_RULES.keys() - operators - inside - {"add_mask"}
