"""Training goes as it went: five new seeds against the curves of a hundred (tests/reference/convergence.py)."""

import json

import numpy as np
import pytest

from tests.reference import convergence

REFERENCE = json.loads(convergence.PATH.read_text())
SEEDS = range(5)
OTHERS = [name for name in convergence.SCHEMES if name != "sparse"]
Z_BOUND = 5.4  # 12 points: a false failure below 1e-6


def z_scores(scheme: str) -> np.ndarray:
    """(numbers, points): from the reference's mean to that of new seeds, in standard errors of the difference."""
    new = convergence.curves(scheme, SEEDS, "eager")
    assert np.isfinite(new).all()
    mean, sd = (np.array(REFERENCE["curves"][scheme][name]) for name in ("mean", "sd"))
    error = sd * (1 / len(SEEDS) + 1 / REFERENCE["seeds"]) ** 0.5
    return (new.mean(0) - mean) / np.maximum(error, 1e-9)  # a KL of 0 has no spread


# T26. Mutants: a KL of 1.5 times the weight or without its warm-up, a learning rate of twice what was asked for.
@pytest.mark.parametrize("scheme", ["sparse", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_training_goes_as_it_went(scheme):
    assert np.abs(z_scores(scheme)).max() < Z_BOUND
