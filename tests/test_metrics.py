"""Metrics against hand-counted values."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.metrics import (
    auroc,
    brier_score,
    compute_logits,
    doubt,
    error_rate,
    expected_calibration_error,
    log_score,
    predictive_probabilities,
    reliability,
    risk_coverage_curve,
)


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


def test_mean_probabilities_average_probabilities_not_logits():
    """Two sure and opposite draws are one unsure prediction; 2:1 in logits does not outvote."""
    logits = torch.tensor([[[100.0, 0.0]], [[0.0, 50.0]], [[0.0, 30.0]]])
    probabilities = predictive_probabilities(logits)
    assert probabilities.shape == (1, 2)
    assert torch.allclose(probabilities, torch.tensor([[1 / 3, 2 / 3]]))


def test_mean_probabilities_sum_to_one_without_overflow():
    logits = 1000 * torch.randn(7, 5, 3)
    probabilities = predictive_probabilities(logits)
    assert probabilities.isfinite().all()
    assert torch.allclose(probabilities.sum(-1), torch.ones(5))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 8, 1000])
def test_logits_do_not_depend_on_the_batch_size(batch_size):
    """And images are scaled as in training: bytes to [0, 1]."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double().float()
    images = torch.arange(28, dtype=torch.uint8).reshape(7, 1, 2, 2) * 9
    logits = compute_logits(net, LabeledImages(images, torch.zeros(7, dtype=torch.int64)), batch_size)
    assert logits.shape == (7, 3)
    assert not logits.requires_grad
    assert torch.allclose(logits, net(images.float() / 255), atol=1e-6)


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


def test_the_calibration_error_by_hand():
    """Confidences 0.9 and 0.95, the second wrong, and 0.55 three times, all right."""
    confidence = torch.tensor([0.9, 0.95, 0.55, 0.55, 0.55])
    probabilities = torch.stack([confidence, 1 - confidence], 1)
    labels = torch.tensor([0, 1, 0, 0, 0])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.2 * 0.1 + 0.2 * 0.95 + 0.6 * 0.45)
    assert expected_calibration_error(probabilities, labels, bins=5) == pytest.approx(0.4 * (0.925 - 0.5) + 0.6 * 0.45)
    # In one bin what is too sure and what is not sure enough make up for each other.
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(abs(0.7 - 0.8))


def test_calibrated_predictions_have_little_calibration_error():
    probabilities = torch.distributions.Dirichlet(torch.ones(3)).sample((40_000,))
    labels = torch.distributions.Categorical(probabilities).sample()
    sharper = probabilities.square() / probabilities.square().sum(-1, keepdim=True)
    assert expected_calibration_error(probabilities, labels) < 0.01
    assert expected_calibration_error(sharper, labels) > 0.1


def test_doubt_is_split_in_what_draws_share_and_what_divides_them():
    logits = 3 * torch.randn(200, 30, 5)
    parts = doubt(logits)
    probabilities = logits.double().softmax(-1)
    # The mutual information as the average divergence of a draw from the average of draws.
    divergence = (probabilities * (probabilities.log() - probabilities.mean(0).log())).sum(-1).mean(0)
    torch.testing.assert_close(parts.epistemic, divergence)
    torch.testing.assert_close(parts.total, parts.aleatoric + parts.epistemic)
    assert (parts.epistemic > 0).all()
    assert (parts.total <= math.log(5)).all()


def test_draws_that_agree_leave_no_epistemic_doubt():
    parts = doubt(torch.randn(1, 30, 5).expand(7, -1, -1) * 100)
    assert (parts.epistemic >= 0).all()
    assert parts.epistemic.max() < 1e-12


@settings(deadline=None)  # scikit-learn is imported at the first
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_the_area_under_roc_counts_pairs(inside, outside):
    pairs = [(a < b) + 0.5 * (a == b) for a, b in itertools.product(inside, outside)]
    found = auroc(torch.tensor(inside, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64))
    assert found == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("scores", [([], [1.0]), ([1.0], []), ([1.0, math.nan], [1.0])])
def test_the_area_under_roc_needs_scores(scores):
    with pytest.raises(UserError, match="a vector is needed, not empty, none NaN"):
        auroc(*map(torch.tensor, scores))


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_the_rejection_curve_averages_the_orders_of_ties(examples):
    doubts, wrong = zip(*examples, strict=True)
    orders = [order for order in itertools.permutations(examples) if [d for d, _ in order] == sorted(doubts)]
    curves = [np.cumsum([w for _, w in order]) / np.arange(1, len(order) + 1) for order in orders]
    found = risk_coverage_curve(torch.tensor(doubts, dtype=torch.float64), torch.tensor(wrong))
    assert found.numpy() == pytest.approx(np.mean(curves, axis=0))


def test_the_rejection_curve_ends_at_the_error_rate():
    scores, labels = torch.randn(500, 4), torch.randint(4, (500,))
    curve = risk_coverage_curve(-scores.softmax(-1).amax(-1), scores.argmax(-1) != labels)
    assert float(curve[-1]) == pytest.approx(error_rate(scores, labels))
    perfect = risk_coverage_curve((scores.argmax(-1) != labels).float(), scores.argmax(-1) != labels)
    assert (perfect[: int((scores.argmax(-1) == labels).sum())] == 0).all()


@given(st.integers(1, 20), st.integers(1, 60), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_the_calibration_error_is_that_of_torchmetrics(bins, n, seed):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(n, 4, generator=generator).softmax(-1)
    labels = torch.randint(4, (n,), generator=generator)
    assert reliability(probabilities, labels, bins).examples.sum() == n
    theirs = multiclass_calibration_error(probabilities, labels, num_classes=4, n_bins=bins, norm="l1").item()
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(theirs, abs=1e-6)


def test_a_confidence_of_1_is_in_the_interval_below_it():
    """Ten at 1, one of them wrong, and ten right ones at 0.97: together 19 of 20 at 0.985."""
    probabilities = torch.tensor([[1.0, 0.0], [0.97, 0.03]]).repeat_interleave(10, 0)
    labels = torch.zeros(20, dtype=torch.long)
    labels[0] = 1
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.985 - 0.95, abs=1e-6)


def test_certainty_is_in_the_last_interval():
    found = reliability(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]), bins=4)
    assert found.examples.tolist() == [0, 0, 0, 2]
    assert found.confidence.tolist() == [0, 0, 0, 1]
    assert found.accuracy.tolist() == [0, 0, 0, 0.5]


def probabilities(*shape):
    return torch.rand(*shape).softmax(-1)


@pytest.mark.parametrize("metric", [error_rate, brier_score, expected_calibration_error, reliability])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (probabilities(4, 3, 5, 5), torch.zeros(4, 5, 5, dtype=torch.long), r"float32 of shape \(4, 3, 5, 5\)"),
        (probabilities(7, 4, 3), torch.zeros(4, dtype=torch.long), r"float32 of shape \(7, 4, 3\)"),
        (torch.ones(4, 1), torch.rand(4), "one score an example, as of a regressor"),
        (torch.ones(4), torch.rand(4), r"float32 of shape \(4,\)"),
        (probabilities(4, 3), torch.rand(4), r"the labels are float32 .*integers of shape \(4,\)"),
        (probabilities(4, 3), torch.zeros(4, 1, dtype=torch.long), r"labels are int64 of shape \(4, 1\)"),
        (probabilities(4, 3), torch.zeros(5, dtype=torch.long), r"labels are int64 of shape \(5,\)"),
        (probabilities(4, 3), torch.zeros(1, dtype=torch.long), r"labels are int64 of shape \(1,\)"),
        (probabilities(4, 3), torch.tensor([1, 2, 3, 1]), "labels from 1 to 3, but the classes are 0 to 2"),
        (probabilities(4, 3), torch.tensor([0, -100, 1, 1]), "labels from -100 to 1"),
        (torch.full((4, 3), math.nan), torch.zeros(4, dtype=torch.long), "a score is NaN"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), "not empty"),
        (torch.ones(4, 3, dtype=torch.long), torch.zeros(4, dtype=torch.long), "floating point"),
    ],
)
def test_scores_and_labels_that_mean_nothing_are_refused(metric, scores, labels, message):
    with pytest.raises(UserError, match=message):
        metric(scores, labels)


@pytest.mark.parametrize(
    "metric", [doubt, predictive_probabilities, lambda logits: log_score(logits, torch.tensor([0, 1]))]
)
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(2, 3), r"float32 of shape \(2, 3\); floating point \(draws, n, classes\)"),
        (torch.zeros(5, 2, 3, 4), r"\(5, 2, 3, 4\)"),
        (torch.zeros(0, 2, 3), "not empty"),
        (torch.zeros(5, 2, 1), "one score an example"),
        (torch.full((5, 2, 3), math.nan), "NaN or infinite"),
        (torch.full((5, 2, 3), math.inf), "NaN or infinite"),
    ],
)
def test_logits_of_draws_have_three_axes(metric, logits, message):
    with pytest.raises(UserError, match=message):
        metric(logits)


@pytest.mark.parametrize("labels", [torch.zeros(3, dtype=torch.long), torch.tensor([0, 3]), torch.tensor([[0], [1]])])
def test_log_scores_are_of_labels_that_are_classes(labels):
    with pytest.raises(UserError, match=r"log_score: .*labels"):
        log_score(torch.zeros(5, 2, 3), labels)


@pytest.mark.parametrize("metric", [brier_score, expected_calibration_error, reliability])
@pytest.mark.parametrize("rows", [[[3.0, -2.0]], [[0.4, 0.4]], [[1.2, -0.2]], [[2.0, 1.0]]])
def test_logits_are_no_probabilities(metric, rows):
    with pytest.raises(UserError, match="predictive_probabilities makes them of logits"):
        metric(torch.tensor(rows), torch.tensor([0]))


def test_rounded_probabilities_and_other_integers_are_taken():
    half, labels = probabilities(50, 100).half(), torch.randint(100, (50,))
    for integers in (torch.uint8, torch.int32):
        assert error_rate(half, labels.to(integers)) == error_rate(half, labels)
        assert brier_score(half, labels.to(integers)) == brier_score(half, labels)
        assert torch.equal(log_score(half[None], labels.to(integers)), log_score(half[None], labels))


@pytest.mark.parametrize("bins", [0, -1])
def test_a_diagram_needs_intervals(bins):
    with pytest.raises(UserError, match=f"bins={bins}"):
        expected_calibration_error(probabilities(4, 3), torch.zeros(4, dtype=torch.long), bins)


@pytest.mark.parametrize(
    ("doubts", "wrong", "message"),
    [
        (torch.zeros(0), torch.zeros(0, dtype=torch.bool), "not empty"),
        (torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool), r"\(3, 1\); a vector is needed"),
        (torch.tensor([0.0, math.nan]), torch.zeros(2, dtype=torch.bool), "none NaN"),
        (torch.zeros(3), torch.zeros(2, dtype=torch.bool), r"wrong is bool of shape \(2,\); bool of shape \(3,\)"),
        (torch.zeros(3), torch.zeros(3), "wrong is float32"),
    ],
)
def test_a_rejection_curve_needs_doubts_and_errors(doubts, wrong, message):
    with pytest.raises(UserError, match=message):
        risk_coverage_curve(doubts, wrong)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 10), (3, 0), (3, -1)])
def test_logits_are_of_examples(n, batch_size):
    examples = LabeledImages(torch.zeros(n, 1, 2, 2), torch.zeros(n, dtype=torch.long))
    with pytest.raises(UserError, match=f"{n} examples, batch_size={batch_size}"):
        compute_logits(nn.Flatten(), examples, batch_size)
