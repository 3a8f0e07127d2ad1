"""Temperature scaling against SciPy's minimizer and known temperatures."""

import math

import pytest
import scipy.optimize
import torch
import torch.nn.functional as F

from pyro_vd.errors import UserError
from pyro_vd.metrics import Temperature, expected_calibration_error, fit_temperature


def sample(temperature, n=400, classes=5, seed=0):
    """Logits, and labels that are calibrated at this temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=generator)
    probabilities = (logits / temperature).softmax(-1)
    return logits, probabilities.multinomial(1, generator=generator)[:, 0]


@pytest.mark.parametrize("true", [0.2, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_temperature_is_scipys_minimum(true, scale):
    logits, labels = sample(true)
    logits = logits * scale

    def loss(log_temperature):
        return F.cross_entropy(logits.double() / math.exp(log_temperature), labels).item()

    center = math.log(true * scale)
    best = scipy.optimize.minimize_scalar(loss, bounds=(center - 3, center + 3), method="bounded").x
    assert fit_temperature(logits, labels).value == pytest.approx(math.exp(best), rel=1e-4)


def test_the_true_temperature_is_found_and_calibrates():
    logits, labels = sample(3.0, n=40_000)
    temperature = fit_temperature(logits, labels)
    assert temperature.value == pytest.approx(3.0, rel=0.03)
    assert expected_calibration_error(logits.softmax(-1), labels) > 0.1
    scaled = temperature(logits)
    assert expected_calibration_error(scaled.softmax(-1), labels) < 0.02
    assert torch.equal(scaled.argmax(-1), logits.argmax(-1))


def test_a_constant_in_every_row_changes_nothing():
    logits, labels = sample(2.0)
    shifted = logits.double() + 1e4 * torch.randn(len(logits), 1).double()
    assert fit_temperature(shifted, labels).value == pytest.approx(fit_temperature(logits, labels).value, rel=1e-6)


def test_a_temperature_is_a_value():
    assert Temperature(2.0) == Temperature(2.0)
    assert torch.equal(Temperature(2.0)(torch.ones(3)), torch.full((3,), 0.5))


RIGHT = torch.tensor([[2.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (RIGHT, [0, 1], "every label has the largest logit, so the best temperature is 0"),
        (torch.zeros(2, 2), [0, 1], "every label has the largest logit"),
        (RIGHT, [1, 0], "the best temperature is infinite"),
        (torch.tensor([[1.0, 0.0], [1.0, 0.0]]), [0, 1], "the best temperature is infinite"),
        (torch.tensor([[0.0, -math.inf], [1.0, 0.0]]), [0, 1], "a logit is infinite"),
        (torch.full((2, 2), math.nan), [0, 1], "NaN"),
        (RIGHT[None], [0, 1], r"\(1, 2, 2\); floating point \(n, classes\)"),
        (RIGHT, [0, 2], "labels from 0 to 2"),
    ],
)
def test_what_has_no_best_temperature_is_refused(logits, labels, message):
    with pytest.raises(UserError, match=message):
        fit_temperature(logits, torch.tensor(labels))
