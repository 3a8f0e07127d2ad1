"""Likelihoods of counts against SciPy's probabilities and closed forms of the maximum likelihood."""

import numpy as np
import pytest
import scipy.stats
import torch

from pyro_vd import NegativeBinomial, Poisson
from pyro_vd.errors import UserError
from tests.model._likelihoods import N, fit, maximize

LOG_MEAN = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
COUNTS = torch.arange(9, dtype=torch.float64)  # of integers, PyTorch computes log n! in float32


def test_probabilities_are_those_of_scipy():
    np.testing.assert_allclose(Poisson(LOG_MEAN).log_prob(COUNTS), scipy.stats.poisson(LOG_MEAN.exp()).logpmf(COUNTS))
    for r, learn in ((0.5, False), (0.5, True), (20.0, False)):
        found = NegativeBinomial(r, learn_total_count=learn)(LOG_MEAN).log_prob(COUNTS).detach()
        expected = scipy.stats.nbinom(r, r / (r + LOG_MEAN.exp())).logpmf(COUNTS)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_moments_are_those_that_are_documented():
    mean = LOG_MEAN.exp()
    torch.testing.assert_close(Poisson(LOG_MEAN).mean, mean)
    torch.testing.assert_close(Poisson(LOG_MEAN).variance, mean)
    target = NegativeBinomial(3.0)(LOG_MEAN)
    torch.testing.assert_close(target.mean, mean)
    torch.testing.assert_close(target.variance, mean + mean**2 / 3)


@pytest.mark.parametrize("likelihood", [Poisson, NegativeBinomial(2.0)])
def test_the_maximum_likelihood_is_the_mean_of_the_counts(likelihood):
    y = (torch.arange(N) % 5)[:, None]
    assert maximize(likelihood, y, torch.zeros(N, 1))[0].exp().item() == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("likelihood", [Poisson, NegativeBinomial(2.0)])
def test_counts_of_any_dtype_are_the_same(likelihood):
    y = (torch.arange(N) % 5)[:, None]
    found = {fit(likelihood, targets).history[0]["log_likelihood"] for targets in (y, y.float(), y.int())}
    assert len(found) == 1


def test_total_count_is_learned():
    """From draws of a known one."""
    torch.manual_seed(0)
    y = NegativeBinomial(2.0)(torch.full((4000, 1), 3.0)).sample()
    likelihood = NegativeBinomial(learn_total_count=True)
    assert [(name, value.shape) for name, value in likelihood.named_parameters()] == [("log_total_count", ())]
    maximize(likelihood, y, torch.zeros(4000, 1))
    assert likelihood.total_count.item() == pytest.approx(2.0, rel=0.1)


def test_a_likelihood_shows_its_number():
    assert str(NegativeBinomial(2.0)) == "NegativeBinomial(total_count=2)"
    assert str(NegativeBinomial(learn_total_count=True)) == "NegativeBinomial(total_count=1, learn_total_count=True)"


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_total_counts_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=rf"NegativeBinomial\(total_count={wrong}\)"):
        NegativeBinomial(wrong)
    with pytest.raises(UserError, match="give total_count, a number above 0, or learn it with learn_total_count=True"):
        NegativeBinomial()


@pytest.mark.parametrize(("likelihood", "name"), [(Poisson, "Poisson"), (NegativeBinomial(2.0), "NegativeBinomial")])
@pytest.mark.parametrize("wrong", [-1.0, 0.5, float("nan"), float("inf")])
def test_what_is_not_a_count_is_refused_before_the_first_step(likelihood, name, wrong):
    y = torch.ones(N, 1)
    y[3] = wrong
    message = rf"y\[3, 0\] is {wrong:g}, which {name} cannot give: targets are counts, whole numbers from 0 on"
    with pytest.raises(UserError, match=message):
        fit(likelihood, y)
