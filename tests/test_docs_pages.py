"""The pages of tutorials and how-to guides: listed once, readable without scrolling, with the pictures they draw."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
FOLDERS = ("tutorials", "how_to")
PAGES = sorted(path for folder in FOLDERS for path in (DOCS / folder).glob("*.md") if path.stem != "index")
CODE_WIDTH = 88  # longer lines are cut in the rendered page


def code_blocks(text):
    return re.findall(r"^ *```[^\n{]*\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def wide_lines(text):
    return [line for block in code_blocks(text) for line in block.splitlines() if len(line) > CODE_WIDTH]


def titles(text):
    """The title of every page of the index's table of contents, in order."""
    return re.search(r"```\{toctree\}\n.*?\n\n(.*?)\n```", text, flags=re.DOTALL)[1].split()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_index_lists_every_page_once_and_in_one_order(folder):
    index = (DOCS / folder / "index.md").read_text()
    linked = re.findall(r"^- \[[^\]]+\]\((\w+)\.md\): ", index, flags=re.MULTILINE)
    pages = {path.stem for path in PAGES if path.parent.name == folder}
    assert set(linked) == pages
    assert len(linked) == len(pages)
    assert [title for title in titles(index) if title in pages] == linked


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_has_code_that_runs_and_fits(page):
    text = page.read_text()
    assert ">>> " in text
    assert wide_lines(text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_pages_and_pictures_that_a_page_links_exist(page):
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text)
    assert [target for target in targets if not (page.parent / target).is_file()] == []
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert [picture for picture in pictures if f'savefig("{picture}"' not in text] == []


def test_wide_code_is_found():
    assert wide_lines(f"text\n```python\n>>> {'x' * 90}\n```\n")
    assert not wide_lines(f"{'x' * 90}\n```python\n>>> x\n```\n")
