"""Arguments that mean nothing are refused by every metric."""

import math

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.metrics import (
    brier_score,
    error_rate,
    expected_calibration_error,
    log_score,
    predictive_probabilities,
    predictive_uncertainty,
    reliability,
)
from tests.metrics._data import probabilities


@pytest.mark.parametrize("metric", [error_rate, brier_score, expected_calibration_error, reliability])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (probabilities(4, 3, 5, 5), torch.zeros(4, 5, 5, dtype=torch.long), r"float32 of shape \(4, 3, 5, 5\)"),
        (probabilities(7, 4, 3), torch.zeros(4, dtype=torch.long), r"float32 of shape \(7, 4, 3\)"),
        (torch.ones(4, 1), torch.rand(4), "one score per example, as of a regressor"),
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
    "metric", [predictive_uncertainty, predictive_probabilities, lambda logits: log_score(logits, torch.tensor([0, 1]))]
)
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.zeros(2, 3), r"float32 of shape \(2, 3\); floating point \(samples, n, classes\)"),
        (torch.zeros(5, 2, 3, 4), r"\(5, 2, 3, 4\)"),
        (torch.zeros(0, 2, 3), "not empty"),
        (torch.zeros(5, 2, 1), "one score per example"),
        (torch.full((5, 2, 3), math.nan), "NaN or infinite"),
        (torch.full((5, 2, 3), math.inf), "NaN or infinite"),
    ],
)
def test_logits_of_draws_have_three_axes(metric, logits, message):
    with pytest.raises(UserError, match=message):
        metric(logits)


@pytest.mark.parametrize("metric", [brier_score, expected_calibration_error, reliability])
@pytest.mark.parametrize("rows", [[[3.0, -2.0]], [[0.4, 0.4]], [[1.2, -0.2]], [[2.0, 1.0]]])
def test_logits_are_no_probabilities(metric, rows):
    with pytest.raises(UserError, match="predictive_probabilities computes them from logits"):
        metric(torch.tensor(rows), torch.tensor([0]))
