"""docs/explanation/architecture.md names the floors that tests/test_imports.py enforces, and files that exist."""

import re
from pathlib import Path

from tests.test_imports import FLOORS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()


def rows_of(heading):
    """The first and the last cell of every row of the table under a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]
    return [(row[0], row[-1]) for row in rows]


def test_the_floors_are_those_that_are_enforced():
    named = [re.findall(r"`([^`]+)`", floor) for floor, _ in rows_of("The floors")]
    short = [[name.removeprefix("pyro_vd/").removesuffix(".py").replace("/", ".") for name in names] for names in named]
    enforced = [sorted(names) for names in FLOORS if names != ["handlers.rules"]]  # named with the handlers
    assert [sorted(names) for names in reversed(short)] == enforced


def test_every_answer_exists():
    answers = [answer.strip("`") for _, answer in rows_of("Where is ...?")]
    assert len(answers) >= 10
    assert [answer for answer in answers if not (ROOT / answer).exists()] == []
