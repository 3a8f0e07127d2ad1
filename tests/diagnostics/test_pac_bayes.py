"""The inequalities of a certificate: against scipy, closed forms and exact probabilities by enumeration."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import rel_entr
from scipy.stats import binom

from pyro_vd.diagnostics.pac_bayes import binary_kl, bound_gibbs_risk, bound_mean, invert_kl

RISKS = (0.0, 1e-6, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0)


@pytest.mark.parametrize("q", RISKS)
@pytest.mark.parametrize("p", [1e-9, 0.05, 0.5, 0.999])
def test_binary_kl_is_the_sum_of_relative_entropies(q, p):
    assert binary_kl(q, p) == pytest.approx(rel_entr(q, p) + rel_entr(1 - q, 1 - p), rel=1e-12)


def test_binary_kl_at_the_ends():
    assert binary_kl(0.0, 0.0) == binary_kl(1.0, 1.0) == binary_kl(0.3, 0.3) == 0
    assert binary_kl(0.3, 1.0) == binary_kl(0.3, 0.0) == math.inf


@pytest.mark.parametrize("q", [q for q in RISKS if 0 < q < 1])
@pytest.mark.parametrize("bound", [1e-6, 1e-3, 0.05, 1.0, 3.0])
def test_the_inversion_is_the_root_of_the_kl(q, bound):
    root = brentq(lambda p: binary_kl(q, p) - bound, q, 1 - 1e-16, xtol=1e-15)
    assert invert_kl(q, bound) == pytest.approx(root, abs=1e-12)


@pytest.mark.parametrize("bound", [0.0, 1e-8, 0.01, 1.0, 50.0])
def test_the_inversion_at_0_is_in_closed_form(bound):
    assert invert_kl(0.0, bound) == pytest.approx(-math.expm1(-bound), abs=1e-15)


def test_the_inversion_rounds_up_and_stays_a_probability():
    generator = np.random.default_rng(0)
    for q, bound in zip(generator.uniform(size=200), generator.exponential(size=200), strict=True):
        found = invert_kl(q, bound)
        assert q <= found <= 1
        assert binary_kl(q, found) >= bound or found == 1
    assert invert_kl(0.2, math.inf) == invert_kl(1.0, 0.0) == 1


@pytest.mark.parametrize("n", [*range(1, 60), 100, 500])
def test_maurers_constant_holds_for_every_number_of_examples(n):
    """The exponential moment of n kl(mean || p) of a Bernoulli variable, at most 2 sqrt(n); he proves n >= 8."""
    k = np.arange(n + 1)
    moment = binom.pmf(k, n, k / n).sum()  # n kl turns the probability under p into that under k/n
    assert moment <= 2 * math.sqrt(n)


@pytest.mark.parametrize("n", [1, 5, 30, 200])
@pytest.mark.parametrize("risk", [0.01, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_the_bound_of_one_classifier_fails_as_seldom_as_it_says(n, risk, delta):
    """Exactly, over all numbers of errors."""
    errors = np.arange(n + 1)
    fails = np.array([bound_gibbs_risk(k / n, 0.0, n, delta) < risk for k in errors])
    assert binom.pmf(errors, n, risk)[fails].sum() <= delta


def test_the_bound_pays_for_the_kl_and_for_delta():
    budget = (12.0 + math.log(2 * math.sqrt(1000) / 0.02)) / 1000
    assert bound_gibbs_risk(0.1, 12.0, 1000, 0.02) == invert_kl(0.1, budget)
    assert bound_gibbs_risk(0.1, 12.0, 1000, 0.02) < bound_gibbs_risk(0.1, 13.0, 1000, 0.02)
    assert bound_gibbs_risk(0.1, 12.0, 1000, 0.02) < bound_gibbs_risk(0.1, 12.0, 1000, 0.01)


@pytest.mark.parametrize("m", [2, 10, 100, 400])
@pytest.mark.parametrize("mean", [0.005, 0.05, 0.5, 0.95])
@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_the_bound_of_a_mean_fails_as_seldom_as_it_says(m, mean, delta):
    """Exactly, for variables that are 0 or 1."""
    ones = np.arange(m + 1)
    variances = ones * (m - ones) / (m * (m - 1))
    fails = np.array([bound_mean(k / m, v, m, delta) < mean for k, v in zip(ones, variances, strict=True)])
    assert binom.pmf(ones, m, mean)[fails].sum() <= delta


def test_the_bound_of_a_mean_is_the_empirical_bernstein_bound():
    log_term = math.log(2 / 0.05)
    expected = 0.1 + math.sqrt(2 * 0.02 * log_term / 1000) + 7 * log_term / (3 * 999)
    assert bound_mean(0.1, 0.02, 1000, 0.05) == pytest.approx(expected, rel=1e-14)
    assert bound_mean(0.9, 0.25, 2, 0.05) == 1
