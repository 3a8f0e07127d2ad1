"""Calibration error and reliability diagrams against hand-counted values and torchmetrics."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from pyro_vd.errors import UserError
from pyro_vd.metrics import expected_calibration_error, reliability
from tests.metrics._data import probabilities


def test_the_calibration_error_by_hand():
    """Confidences 0.9 and 0.95, the second wrong, and 0.55 three times, all right."""
    confidence = torch.tensor([0.9, 0.95, 0.55, 0.55, 0.55])
    probabilities = torch.stack([confidence, 1 - confidence], 1)
    labels = torch.tensor([0, 1, 0, 0, 0])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.2 * 0.1 + 0.2 * 0.95 + 0.6 * 0.45)
    assert expected_calibration_error(probabilities, labels, bins=5) == pytest.approx(0.4 * (0.925 - 0.5) + 0.6 * 0.45)
    # In one bin what is too sure and what is not sure enough cancel out.
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(abs(0.7 - 0.8))


def test_calibrated_predictions_have_little_calibration_error():
    probabilities = torch.distributions.Dirichlet(torch.ones(3)).sample((40_000,))
    labels = torch.distributions.Categorical(probabilities).sample()
    sharper = probabilities.square() / probabilities.square().sum(-1, keepdim=True)
    assert expected_calibration_error(probabilities, labels) < 0.01
    assert expected_calibration_error(sharper, labels) > 0.1


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


@pytest.mark.parametrize("bins", [0, -1])
def test_a_diagram_needs_intervals(bins):
    with pytest.raises(UserError, match=f"bins={bins}"):
        expected_calibration_error(probabilities(4, 3), torch.zeros(4, dtype=torch.long), bins)
