"""The PSIS diagnostic: known evidence, known tails, and refusals."""

import math

import pytest
import torch

from pyro_vd import guides
from pyro_vd.diagnostics import psis_diagnostic
from pyro_vd.errors import UserError
from tests.diagnostics._data import MEAN, REGRESSION, VARIANCE, one_weight, posterior_of


def test_importance_weights_are_joint_over_guide():
    """Of the exact posterior they are all the evidence of the data: N(y; 0, 1 + 4 x x^T)."""
    x, y = REGRESSION
    evidence = torch.distributions.MultivariateNormal(torch.zeros(4), torch.eye(4) + 4 * x @ x.T).log_prob(y[:, 0])
    found = psis_diagnostic(one_weight(MEAN, VARIANCE), REGRESSION, num_samples=50)
    assert found.log_weights == pytest.approx(float(evidence), abs=1e-4)
    assert found.effective_sample_size == pytest.approx(50, rel=1e-3)


@pytest.mark.parametrize("narrower", [0.75, 0.5, 0.25])
def test_the_tail_of_a_narrow_guide_has_its_known_shape(narrower):
    """For N(m, s v) under N(m, v) the weights' tail has shape 1 - s."""
    found = psis_diagnostic(one_weight(MEAN, narrower * VARIANCE), REGRESSION, num_samples=4000)
    assert found.pareto_k == pytest.approx(1 - narrower, abs=0.15)


def test_a_wide_guide_has_no_tail_and_fewer_effective_draws():
    found = psis_diagnostic(one_weight(MEAN, 4 * VARIANCE), REGRESSION, num_samples=2000)
    assert found.pareto_k < 0.2
    # E[w]^2 / E[w^2] of N(m, 4v) under N(m, v) is sqrt(2 * 4 - 1) / 4.
    assert found.effective_sample_size / 2000 == pytest.approx(math.sqrt(7) / 4, abs=0.03)


@pytest.mark.parametrize(("scheme", "prior"), [("bernoulli", None), ("hierarchical", None), ("none", None)])
def test_what_has_no_density_has_no_importance_weights(scheme, prior, data):
    posterior = posterior_of(scheme=scheme, prior=prior or getattr(guides, scheme).prior)
    with pytest.raises(UserError, match=r"'0\.weight' has no density"):
        psis_diagnostic(posterior, data, num_samples=25)


def test_a_fit_needs_draws(data):
    with pytest.raises(UserError, match="num_samples=24; at least 25 draws have a tail"):
        psis_diagnostic(posterior_of(), data, num_samples=24)


def test_data_that_no_draw_makes_say_nothing_of_the_guide():
    x, y = REGRESSION
    with pytest.raises(UserError, match=r"is NaN, infinite or always 0"):
        psis_diagnostic(one_weight(MEAN, VARIANCE), (x, y + 1e30), num_samples=25)
    for wrong in ((x, y * math.nan), (x * math.nan, y)):
        with pytest.raises(UserError, match=r"a number of [xy] is NaN"):
            psis_diagnostic(one_weight(MEAN, VARIANCE), wrong, num_samples=25)
