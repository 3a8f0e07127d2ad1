"""The pages beside the records: what the records say, pictures first, no table wider than a page, no empty table."""

import re

import pytest

from pyro_vd.errors import UserError
from pyro_vd.experiments import pages
from pyro_vd.experiments.common.store import Store
from pyro_vd.experiments.common.tables import PAGE_WIDTH, Table

NAMES = [page.store.folder.name for page in pages.PAGES]


@pytest.fixture(params=pages.PAGES, ids=NAMES)
def page(request):
    return request.param


def read(page):
    return (page.store.folder / "README.md").read_text(encoding="utf-8")


def test_every_folder_of_results_has_a_page():
    folders = {path.parent.name for path in pages.RESULTS.glob("*/*.json")}
    assert folders <= set(NAMES)


def test_it_is_what_its_records_say(page):
    assert pages.fill(page.store.folder / "README.md", page) == read(page)


def test_its_tables_fit_and_are_not_empty(page):
    tables = page.make_tables(page.store)
    assert tables
    for table in tables:
        assert table.rows
        assert max(map(len, table.markdown().splitlines())) <= PAGE_WIDTH


def test_its_pictures_come_first_and_exist(page):
    below = read(page).partition(pages.MARKER)[2]
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", below)
    assert names == list(page.pictures)
    assert all((page.store.folder / name).is_file() for name in names)
    assert below.find("![") < below.find("| ")  # -1, no picture, is before too


def test_its_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", read(page)):
        assert "://" in link or (page.store.folder / link).exists(), link


def test_nothing_says_that_it_is_not_measured(page):
    assert "ot measured" not in read(page)


def make_page(folder, *, head=f"# A study\n\nWhat comes out?\n\n{pages.MARKER}\nold\n"):
    (folder / "README.md").write_text(head)
    table = Table("numbers", ("a", "b"), (("1", "2"),))
    return pages.Page(Store(folder), lambda store: [table], pictures={"x.png": "A picture"})


def test_what_is_below_the_marker_is_made_anew_and_the_head_is_kept(tmp_path):
    page = make_page(tmp_path)
    (tmp_path / pages.NOTES).write_text("## How\n\nLike this.\n")
    text = pages.fill(tmp_path / "README.md", page)
    assert text == (
        f"# A study\n\nWhat comes out?\n\n{pages.MARKER}\n\n![A picture](x.png)\n\n"
        "numbers:\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n## How\n\nLike this.\n"
    )


def test_a_page_without_a_marker_is_refused(tmp_path):
    page = make_page(tmp_path, head="# A study\n")
    with pytest.raises(UserError, match=r"README\.md has no line <!-- Below"):
        pages.fill(tmp_path / "README.md", page)


def test_the_check_finds_a_page_that_differs_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PAGES", (make_page(tmp_path),))
    before = (tmp_path / "README.md").read_text()
    with pytest.raises(UserError, match="differs from the records; run python -m experiments.pages"):
        pages.main(pages.Args(check=True))
    assert (tmp_path / "README.md").read_text() == before
