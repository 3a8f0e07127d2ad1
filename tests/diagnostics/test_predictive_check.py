"""Posterior predictive checks: p-values, ties, and statistics that are not a number."""

import math

import numpy as np
import pytest

from pyro_vd.diagnostics import posterior_predictive_check
from pyro_vd.errors import UserError
from tests.diagnostics._data import MEAN, REGRESSION, VARIANCE, conjugate_draws


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.5), (10.0, 0.0), (-10.0, 1.0)])
def test_a_predictive_check_finds_what_the_model_does_not_make(shift, expected):
    x, y = REGRESSION
    data = conjugate_draws(x, y, num_samples=500)
    center = float((x * MEAN).mean())
    found = posterior_predictive_check(
        data, lambda targets: center + shift if np.array_equal(targets, y[:, 0]) else targets.mean()
    )
    assert found.observed == pytest.approx(center + shift)
    assert found.replicated.shape == (500,)
    # Targets' mean over draws: N(center, 1/4 + v), so center itself is at 1/2, within 5 standard errors.
    assert found.p_value == pytest.approx(expected, abs=0.12)
    assert found.replicated.var() == pytest.approx(0.25 + VARIANCE * float(x.mean()) ** 2, rel=0.3)


@pytest.mark.parametrize("statistic", [lambda _: math.nan, lambda targets: targets])
def test_a_statistic_is_one_number(statistic):
    data = conjugate_draws(*REGRESSION, num_samples=3)
    with pytest.raises(UserError, match=r"the statistic gave .*one number is needed"):
        posterior_predictive_check(data, statistic)


def test_ties_count_half():
    data = conjugate_draws(*REGRESSION, num_samples=30)
    assert posterior_predictive_check(data, lambda _: 1.0).p_value == 0.5
