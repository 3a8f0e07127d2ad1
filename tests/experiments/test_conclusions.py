"""Conclusions from records: what is paired, the interval against scipy, and every answer."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from pyro_vd import Training
from pyro_vd.experiments import cifar_reference
from pyro_vd.experiments.common.conclusions import Claim, conclusions_table, decide, pair_groups
from pyro_vd.experiments.common.spec import Data, Fit, Spec
from pyro_vd.experiments.common.store import Store

SPECS = {
    row: Spec(network="mlp", data=Data(name="digits"), phases=(Fit(scheme=row, training=Training(epochs=1)),))
    for row in ("none", "bernoulli", "sparse")
}
LESS, SAME = Claim("a is better", ("a",), ("b",)), Claim("a is b", ("a",), ("b",), "same")


@pytest.fixture
def save(tmp_path):
    """A function that saves a row's run and returns it."""
    store = Store(tmp_path)

    def saved(row, seed, error, diverged=False, **numbers):
        made = {"dataset": "digits", "device": "cpu", "diverged": diverged, "test_error": error, **numbers}
        return store.save(replace(SPECS[row], seed=seed), made)

    return saved


def test_runs_are_paired_by_seed_and_groups_are_averaged(save):
    found = {
        "a": [save("none", 0, 0.10), save("none", 1, 0.20), save("none", 2, 0.9), save("none", 3, 0.2, "diverged")],
        "b": [save("bernoulli", 1, 0.22), save("bernoulli", 0, 0.11), save("bernoulli", 3, 0.1)],
        "c": [save("sparse", 0, 0.13), save("sparse", 1, 0.22), save("sparse", 2, 0.5)],
    }
    assert pair_groups(LESS, found) == pytest.approx([-1, -2])
    assert pair_groups(Claim("", ("a",), ("b", "c")), found) == pytest.approx([10 - 12, 20 - 22])
    assert pair_groups(Claim("", ("a", "b"), ("c",)), found) == pytest.approx([10.5 - 13, 21 - 22])
    assert pair_groups(Claim("", ("c",)), found) == pytest.approx([13, 22, 50])
    assert pair_groups(Claim("", ("a",), ("d",)), found) == []


def test_another_number_of_a_run_may_be_compared(save):
    found = {
        "a": [save("none", 0, 0.1, train_error=0.05)],
        "b": [save("sparse", 0, 0.1, train_error=0.02)],
    }
    assert pair_groups(replace(LESS, number=lambda run: 100 * run["train_error"]), found) == pytest.approx([3])


def test_the_answer_is_that_of_the_t_interval():
    torch.manual_seed(0)
    answers = set()
    for count, mean in itertools.product((2, 3, 5), (-2.0, -0.5, 0.0, 0.5, 2.0)):
        for _ in range(10):
            differences = (mean + torch.randn(count)).tolist()
            low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
            expected = "yes" if high < 0 else "no, the reverse" if low > 0 else "not decided"
            assert decide(differences, LESS) == expected
            answers.add(expected)
    assert answers == {"yes", "no, the reverse", "not decided"}


@pytest.mark.parametrize(
    ("differences", "answer"),
    [
        ([0.1, -0.1, 0.05], "yes, within 0.5"),
        ([0.3, 0.31, 0.29], "yes, within 0.5"),  # not equal, but close
        ([1.0, 1.1, 0.9], "no"),
        ([-1.0, -1.1, -0.9], "no"),
        ([1.0, -1.0, 0.2], "not decided"),
        ([0.4, 0.5, 0.6], "no"),
        ([0.0, 0.0], "yes, equal"),
        ([0.1], "not decided"),
    ],
)
def test_the_same_is_within_the_margin(differences, answer):
    assert decide(differences, SAME) == answer


def test_one_pair_decides_nothing_and_equal_runs_are_not_less():
    assert decide([-50.0], LESS) == "not decided"
    assert decide([0.0, 0.0, 0.0], LESS) == "no, equal"
    assert decide([-1.0, -1.0], LESS) == "yes"


def test_the_table_pools_columns_and_leaves_out_claims_without_runs(save):
    first = {
        "a": [save("none", 0, 0.10), save("none", 1, 0.20)],
        "b": [save("sparse", 0, 0.12), save("sparse", 1, 0.21)],
    }
    second = {"a": [save("none", 2, 0.10)], "b": [save("sparse", 2, 0.13)]}
    table = conclusions_table([LESS, Claim("c is better", ("c",), ("a",))], [first, second])
    error = 1 / math.sqrt(3)  # of -2, -1, -3
    assert table.rows == (("a is better", f"-2.00 ± {error:.2f}", "3", "not decided"),)
    assert conclusions_table([LESS], [{"a": [], "b": []}]) is None


def test_claims_of_the_reference_are_about_its_rows():
    for rows in cifar_reference.make_columns(Data(name="cifar10")).values():
        for claim in cifar_reference.CLAIMS:
            assert set(claim.first) <= set(rows)
            assert set(claim.second) <= set(rows)
            assert not set(claim.first) & set(claim.second)
