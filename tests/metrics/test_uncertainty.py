"""Uncertainty, AUROC and risk-coverage curves against their definitions."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_vd.errors import UserError
from pyro_vd.metrics import auroc, error_rate, predictive_uncertainty, risk_coverage_curve


def test_uncertainty_is_split_in_what_draws_share_and_where_they_differ():
    logits = 3 * torch.randn(200, 30, 5)
    parts = predictive_uncertainty(logits)
    probabilities = logits.double().softmax(-1)
    # The mutual information as the average divergence of a draw from the average of draws.
    divergence = (probabilities * (probabilities.log() - probabilities.mean(0).log())).sum(-1).mean(0)
    torch.testing.assert_close(parts.epistemic, divergence)
    torch.testing.assert_close(parts.total, parts.aleatoric + parts.epistemic)
    assert (parts.epistemic > 0).all()
    assert (parts.total <= math.log(5)).all()


def test_draws_that_agree_leave_no_epistemic_uncertainty():
    parts = predictive_uncertainty(torch.randn(1, 30, 5).expand(7, -1, -1) * 100)
    assert (parts.epistemic >= 0).all()
    assert parts.epistemic.max() < 1e-12


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_auroc_counts_pairs(id_scores, ood_scores):
    pairs = [(a < b) + 0.5 * (a == b) for a, b in itertools.product(id_scores, ood_scores)]
    found = auroc(torch.tensor(id_scores, dtype=torch.float64), torch.tensor(ood_scores, dtype=torch.float64))
    assert found == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("scores", [([], [1.0]), ([1.0], []), ([1.0, math.nan], [1.0])])
def test_auroc_needs_scores(scores):
    with pytest.raises(UserError, match="a vector is needed, not empty, without NaN"):
        auroc(*map(torch.tensor, scores))


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_the_risk_coverage_curve_averages_the_orders_of_ties(examples):
    uncertainty, wrong = zip(*examples, strict=True)
    orders = [order for order in itertools.permutations(examples) if [d for d, _ in order] == sorted(uncertainty)]
    curves = [np.cumsum([w for _, w in order]) / np.arange(1, len(order) + 1) for order in orders]
    found = risk_coverage_curve(torch.tensor(uncertainty, dtype=torch.float64), torch.tensor(wrong))
    assert found.numpy() == pytest.approx(np.mean(curves, axis=0))


def test_the_risk_coverage_curve_ends_at_the_error_rate():
    scores, labels = torch.randn(500, 4), torch.randint(4, (500,))
    curve = risk_coverage_curve(-scores.softmax(-1).amax(-1), scores.argmax(-1) != labels)
    assert float(curve[-1]) == pytest.approx(error_rate(scores, labels))
    perfect = risk_coverage_curve((scores.argmax(-1) != labels).float(), scores.argmax(-1) != labels)
    assert (perfect[: int((scores.argmax(-1) == labels).sum())] == 0).all()


@pytest.mark.parametrize(
    ("uncertainty", "wrong", "message"),
    [
        (torch.zeros(0), torch.zeros(0, dtype=torch.bool), "not empty"),
        (torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool), r"\(3, 1\); a vector is needed"),
        (torch.tensor([0.0, math.nan]), torch.zeros(2, dtype=torch.bool), "without NaN"),
        (torch.zeros(3), torch.zeros(2, dtype=torch.bool), r"is_wrong is bool of shape \(2,\); bool of shape \(3,\)"),
        (torch.zeros(3), torch.zeros(3), "is_wrong is float32"),
    ],
)
def test_a_risk_coverage_curve_needs_uncertainty_and_errors(uncertainty, wrong, message):
    with pytest.raises(UserError, match=message):
        risk_coverage_curve(uncertainty, wrong)
