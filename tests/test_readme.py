"""The README: its size, its links, its numbers, and its example, which runs and prints what the page shows."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

import pyro_vd
from pyro_vd import compress, guides, lora
from pyro_vd.errors import UserError
from pyro_vd.experiments import readme
from pyro_vd.experiments.common.tables import PAGE_WIDTH

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CODE, SHOWN = re.search(r"```python\n(.*?)```.*?```\n(.*?)```", TEXT, flags=re.DOTALL).groups()
LINKS = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)


def test_it_is_read_in_five_minutes():
    assert len(TEXT.splitlines()) <= 150
    assert len(TEXT.encode()) <= 10_000


def test_its_parts_come_in_the_order_of_a_reader():
    parts = ("pip install", "![", "## Example", "## Three ways in", "## Result", "## Which scheme",
             "## Schemes and papers", "## Reproduce", "## Limits", "## Read on")  # fmt: skip
    places = [TEXT.index(part) for part in parts]
    assert places == sorted(places)


def test_its_lines_fit_a_page():
    tables = [line for line in TEXT.splitlines() if line.startswith("|")]
    assert max(map(len, TEXT.splitlines())) <= 120
    assert max(map(len, tables)) <= PAGE_WIDTH
    assert max(map(len, CODE.splitlines())) <= 88


@pytest.mark.parametrize("link", sorted({link for link in LINKS if "://" not in link}))
def test_its_links_lead_to_files(link):
    assert (ROOT / link).exists()


def test_it_links_every_scheme():
    for name, module in guides.SCHEMES.items():
        file = module.__name__.removeprefix("pyro_vd.").replace(".", "/")
        assert f"[`{name}`]({file}.py)" in TEXT


def test_its_tables_are_what_the_records_say():
    assert readme.fill_readme(TEXT) == TEXT


def test_a_number_that_is_typed_by_hand_is_found():
    changed = TEXT.replace("published: the paper", "published: an article")
    assert changed != TEXT
    assert readme.fill_readme(changed) == TEXT


def test_a_readme_without_a_block_is_refused():
    with pytest.raises(UserError, match=r"README\.md has no block <!-- result"):
        readme.fill_readme("# nothing")


@pytest.fixture(scope="module")
def printed():
    """What the example prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(CODE, "README.md", "exec"), {})  # noqa: S102
    return out.getvalue()


DOORS = re.search(r"## Three ways in\n+```python\n(.*?)```", TEXT, flags=re.DOTALL).group(1).strip().split("\n\n# ")


def run_door(number, **names):
    """Runs a way in with few epochs, and returns the small network."""
    code = re.sub(r"epochs=\d+", "epochs=1", DOORS[number].partition("\n")[2])
    with contextlib.redirect_stderr(io.StringIO()):
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    return names["small"]


def test_every_way_in_has_at_most_five_lines():
    assert len(DOORS) == 3
    lines = [[line for line in door.splitlines()[1:] if line] for door in DOORS]  # without the comment
    assert max(map(len, lines)) <= 5


def test_a_module_of_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x = torch.randn(300, 20)
    net = torch.nn.Sequential(torch.nn.Linear(20, 3))
    y = net(x).argmax(1)  # so that its accuracy is 1
    small = run_door(0, compress=compress, pyro_vd=pyro_vd, net=net, x=x, y=y, held_x=x, held_y=y)
    assert (small(x).argmax(1) == y).double().mean() >= 0.98
    assert (tmp_path / "net.pvd").stat().st_size > 0


def test_the_ranks_of_an_adapter():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Embedding(50, 16), torch.nn.Flatten(), torch.nn.Linear(64, 2))
    net = peft.get_peft_model(body, peft.LoraConfig(r=4, target_modules=["2"]))
    ids = torch.randint(50, (64, 4))
    names = {
        name: getattr(pyro_vd, name) for name in ("lift", "fit", "EmpiricalBayes", "Categorical", "Training", "guides")
    }
    small = run_door(1, **names, lora=lora, net=net, ids=ids, y=(ids < 9).any(1).long())
    assert sum(lora.count_ranks(small).values()) <= 4


def test_a_network_from_a_package():
    pytest.importorskip("digit_recognizer")
    x, y = torch.randn(20, 1, 28, 28), torch.arange(20) % 10
    small = run_door(2, pyro_vd=pyro_vd, x=x, y=y)
    assert small(x).shape == (20, 10)


def numbers(text):
    inputs, units, classes, accuracy = re.search(
        r"in_features=(\d+), out_features=(\d+).*out_features=(\d+).*tensor\(([\d.]+)\)", text, flags=re.DOTALL
    ).groups()
    return int(inputs), int(units), int(classes), float(accuracy)


def test_the_example_prints_what_the_page_shows(printed):
    """On this machine to the unit; elsewhere floating-point sums differ, and so may a unit."""
    inputs, units, classes, accuracy = numbers(printed)
    shown = numbers(SHOWN)
    assert abs(inputs - shown[0]) <= 2
    assert abs(units - shown[1]) <= 6
    assert classes == shown[2]
    assert abs(accuracy - shown[3]) <= 0.02
    assert re.sub(r"[\d.]+", "0", printed.strip()) == re.sub(r"[\d.]+", "0", SHOWN.strip())


def test_the_prose_about_the_example_is_true(printed):
    said = re.search(r"plain network of (\d+) inputs and (\d+) units, with ([\d,]+) of ([\d,]+) weights", TEXT)
    inputs, units, classes, _ = numbers(SHOWN)
    assert (int(said[1]), int(said[2])) == (inputs, units)
    assert int(said[3]) == inputs * units + units * classes
    assert int(said[4].replace(",", "")) == 20 * 64 + 64 * classes
    inputs, units, classes, _ = numbers(printed)
    assert inputs * units + units * classes < 300


def test_the_number_of_schemes_is_that_of_the_library():
    dropout = {module for name, module in guides.SCHEMES.items() if name != "none"}
    assert len(dropout) == 13
    assert "Thirteen dropout schemes" in TEXT
