import math

import mpmath as mp
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import LogUniform
from pyro_vd.priors.log_uniform import LOG_DENSITY_CONSTANT


def expectation(f, theta: float, sigma: float) -> torch.Tensor:
    """E f(w), w ~ N(theta, sigma^2), for f with a logarithmic pole at 0: trapezoids in log|w| on either side."""
    step = 1 / 400
    size = (torch.arange(-45, 6, step, dtype=torch.float64) + math.log(sigma)).exp()
    q = Normal(torch.tensor(theta, dtype=torch.float64), sigma)
    return sum((f(w) * q.log_prob(w).exp() * size * step).sum() for w in (size, -size))


# Mutant: the quadrature itself.
@pytest.mark.parametrize("theta", [0.0, 0.3, -2.0, 12.0])
def test_the_quadrature_knows_the_normal(theta):
    assert expectation(torch.ones_like, theta, 0.7).item() == pytest.approx(1, abs=1e-12)
    assert expectation(torch.square, theta, 0.7).item() == pytest.approx(theta**2 + 0.49, rel=1e-12)


# Mutants: any digit of the constant, a sign of log|w|, log w^2 for log|w|, a KL off by the constant.
@pytest.mark.parametrize(
    ("theta", "sigma"), [(0.0, 1.0), (0.5, 1.0), (-0.5, 0.1), (1e-3, 0.02), (3.0, 0.25), (20.0, 4.0)]
)
def test_exact_kl_is_the_expected_log_ratio(theta, sigma):
    q = WeightNormal(*(torch.tensor(x, dtype=torch.float64) for x in (theta, 2 * math.log(sigma))))
    prior = LogUniform("exact")
    ratio = expectation(lambda w: q.log_prob(w) - prior.log_prob(w), theta, sigma)
    torch.testing.assert_close(kl_divergence(q, prior), ratio, rtol=1e-11, atol=1e-11)


# Mutant: a constant that does not make KL vanish as alpha grows.
def test_constant_is_its_closed_form():
    closed = -(1 + mp.log(2 * mp.pi)) / 2 - (mp.euler + mp.log(2)) / 2
    assert abs(closed - LOG_DENSITY_CONSTANT) < 1e-15


# Mutants: log w for log|w|, 1/w^2, a density that is not scale invariant.
def test_density_is_one_over_the_size():
    w = torch.tensor([1e-30, 1e-3, 0.5, 2.0, 1e12], dtype=torch.float64)
    prior = LogUniform()
    log_p = prior.log_prob(w)
    torch.testing.assert_close(log_p + w.log(), torch.full_like(w, LOG_DENSITY_CONSTANT), rtol=1e-14, atol=0)
    assert torch.equal(prior.log_prob(-w), log_p)
    assert prior.log_prob(torch.tensor(0.0)) == math.inf


# Mutant: both forms share one KL or one density differs.
def test_the_forms_share_the_density_and_not_the_kl():
    w, q = torch.tensor([0.3, -4.0]), WeightNormal(torch.ones(2), log_alpha=torch.tensor([-3.0, 0.0]))
    fit, truth = LogUniform(), LogUniform(kl="exact")
    assert fit.kl == "molchanov"
    assert torch.equal(fit.log_prob(w), truth.log_prob(w))
    assert (kl_divergence(q, fit) - kl_divergence(q, truth)).abs().min() > 1e-3


# Mutant: expand or to_event that falls back to the default form.
def test_expand_and_to_event_keep_the_form():
    q = WeightNormal(torch.ones(2, 3), log_alpha=torch.tensor(-3.0))
    wide = LogUniform("exact").expand(torch.Size([2, 3]))
    assert wide.kl == "exact"
    single = kl_divergence(WeightNormal(torch.tensor(1.0), log_alpha=torch.tensor(-3.0)), LogUniform("exact"))
    torch.testing.assert_close(kl_divergence(q.to_event(2), wide.to_event(2)), 6 * single)


# Mutant: a typo that silently gives the default form.
@pytest.mark.parametrize("kl", ["Exact", "kingma2015", "", None, dist.Normal])
def test_unknown_forms_are_refused_with_the_choices(kl):
    with pytest.raises(ValueError, match="'molchanov', 'exact'"):
        LogUniform(kl=kl)
