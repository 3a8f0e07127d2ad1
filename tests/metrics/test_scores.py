"""Error rate, log score and Brier score against hand-counted values."""

import math

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.metrics import brier_score, error_rate, log_score, predictive_probabilities
from tests.metrics._data import probabilities


def test_error_rate_is_a_fraction():
    scores = torch.tensor([[2.0, 1.0], [0.0, 5.0], [3.0, -1.0], [0.0, 1.0]])
    assert error_rate(scores, torch.tensor([0, 1, 1, 0])) == 0.5
    assert error_rate(scores, torch.tensor([0, 1, 0, 1])) == 0.0
    assert error_rate(scores, torch.tensor([1, 0, 1, 0])) == 1.0
    assert isinstance(error_rate(scores, torch.zeros(4, dtype=torch.int64)), float)


def test_error_rate_is_exact_for_many_examples():
    """Kills a float32 mean: 1 in 3 has to come out as the nearest double."""
    scores = torch.zeros(60_000, 2)
    scores[:, 0] = 1
    labels = (torch.arange(60_000) % 3 == 0).long()
    assert error_rate(scores, labels) == 20_000 / 60_000


def test_the_log_score_is_of_the_average_probability():
    logits, labels = torch.randn(6, 50, 4, dtype=torch.float64), torch.randint(4, (50,))
    expected = predictive_probabilities(logits)[torch.arange(50), labels].log()
    torch.testing.assert_close(log_score(logits, labels), expected)


def test_the_log_score_of_what_all_draws_find_impossible_is_finite():
    logits = torch.tensor([[[0.0, 400.0]], [[0.0, 300.0]]])
    assert predictive_probabilities(logits)[0, 0] == 0  # whose logarithm would be -inf
    assert float(log_score(logits, torch.tensor([0]))) == pytest.approx(-300 - math.log(2))


def test_the_brier_score_by_hand():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    expected = ((0.09 + 0.04 + 0.01) + (0.81 + 0.01 + 0.64)) / 2
    assert brier_score(probabilities, torch.tensor([0, 0])) == pytest.approx(expected)
    assert brier_score(torch.full((3, 10), 0.1), torch.tensor([0, 5, 9])) == pytest.approx(0.9)


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.long), torch.tensor([0, 3]), torch.tensor([[0], [1]])])
def test_log_scores_are_of_labels_that_are_classes(labels):
    with pytest.raises(UserError, match=r"log_score: .*labels"):
        log_score(torch.zeros(5, 2, 3), labels)


def test_rounded_probabilities_and_other_integers_are_taken():
    half, labels = probabilities(50, 100).half(), torch.randint(100, (50,))
    for integers in (torch.uint8, torch.int32):
        assert error_rate(half, labels.to(integers)) == error_rate(half, labels)
        assert brier_score(half, labels.to(integers)) == brier_score(half, labels)
        assert torch.equal(log_score(half[None], labels.to(integers)), log_score(half[None], labels))
