"""The mutants of ``python -m tests.mutants`` still fit the code that they would break; breaking it takes minutes."""

from pathlib import Path

import pytest

from tests.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_mutant_fits_the_code_and_changes_it(mutant):
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert all((ROOT / path.split("::")[0]).exists() for path in mutant.tests.split() if not path.startswith("-"))


def test_every_mutant_is_another_one():
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
