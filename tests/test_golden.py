"""The library's closed forms against numbers that NumPy and SciPy got from the definitions (tests/reference/golden.py).

Mutants: a missing one half, sigma for sigma^2, a KL per group counted per weight, the shape of the Gamma, tau0 for its
square, gates counted by expectation, constants.
"""

import json
import math

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from torch.distributions import kl_divergence

from pyro_vd.kl import kl_log_normal_gamma, kl_log_normal_inverse_gamma
from pyro_vd.posteriors import (
    ConcreteDropout,
    GroupScale,
    HardConcrete,
    InputNoise,
    LogNormalParameters,
    LogNormalScale,
    ScaledConcrete,
    TruncatedLogNormal,
    WeightNormal,
)
from pyro_vd.priors import (
    L0,
    EmpiricalBayes,
    GroupHorseshoe,
    GroupNormalJeffreys,
    Horseshoe,
    LogUniform,
    MonteCarloKL,
    TruncatedLogUniform,
    spike_and_slab,
)
from tests.reference import golden
from tests.reference.z_test import z_of_mean

GOLDEN = json.loads(golden.PATH.read_text())


def tensor(values):
    return torch.as_tensor(values, dtype=torch.float64)


@pytest.fixture
def q(double):
    return WeightNormal(tensor(golden.THETA), log_sigma2=tensor(golden.LOG_SIGMA2))


@pytest.fixture
def log_alpha_form(double):
    log_alpha = tensor(golden.LOG_SIGMA2) - 2 * tensor(golden.THETA).abs().log()
    return WeightNormal(tensor(golden.THETA), log_alpha=log_alpha)


@pytest.mark.parametrize(
    ("name", "prior", "rel"),
    [
        ("log_uniform_exact", LogUniform("exact"), 1e-8),
        ("log_uniform_molchanov", LogUniform(), 1e-12),
        ("empirical_bayes_weight", EmpiricalBayes(), 1e-9),
        ("empirical_bayes_unit", EmpiricalBayes("unit"), 1e-9),
        ("empirical_bayes_layer", EmpiricalBayes("layer"), 1e-9),
        ("normal", dist.Normal(0.1, 0.7), 1e-7),
        ("laplace", dist.Laplace(0.1, 0.7), 1e-7),
    ],
)
@pytest.mark.parametrize("form", ["q", "log_alpha_form"])
def test_gaussian_posteriors(name, prior, rel, form, request):
    total = kl_divergence(request.getfixturevalue(form), prior).expand(2, 3).sum()
    assert total.item() == pytest.approx(GOLDEN[name], rel=rel)


@pytest.mark.parametrize("transposed", [False, True])
def test_shared_gamma_follows_the_dimension_of_the_units(q, transposed):
    prior = EmpiricalBayes("unit", dim=0 if transposed else 1)
    if transposed:
        q = WeightNormal(q.theta.T, log_sigma2=q.log_sigma2.T)
    assert kl_divergence(q, prior).sum().item() == pytest.approx(GOLDEN["empirical_bayes_unit"], rel=1e-9)


def test_kingmas_cubic(double):
    q = WeightNormal(torch.ones(3), log_alpha=tensor([0.05, 0.4, 1.0]).log())
    assert kl_divergence(q, LogUniform("kingma")).sum().item() == pytest.approx(GOLDEN["log_uniform_kingma"], rel=1e-12)


def test_horseshoe_density(double):
    for w, log_density in GOLDEN["horseshoe"].items():
        for value in (float(w), -float(w)):
            found = Horseshoe(golden.TAU0).log_prob(torch.tensor(value))
            assert found.item() == pytest.approx(log_density, abs=1e-6)


def test_horseshoe_samples_have_the_density(double):
    """Shares of draws below seven quantiles of |w|, against the density integrated on a fine grid of log |w|."""
    draws = Horseshoe(0.5).sample((200_000,)).abs()
    log_w = torch.linspace(-25, 25, 200_001)
    mass = 2 * (Horseshoe(0.5).log_prob(log_w.exp()) + log_w).exp() * (log_w[1] - log_w[0])
    cumulative = mass.cumsum(0)
    # The tail of a Cauchy, with so many draws none beyond exp(25); below exp(-25) there is next to nothing.
    torch.testing.assert_close(cumulative[-1], torch.tensor(1.0), atol=1e-6, rtol=0)
    for quantile in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95):
        at = log_w[(cumulative - quantile).abs().argmin()].exp()
        assert z_of_mean((draws < at).double(), quantile).abs() < 5


@pytest.mark.parametrize(
    ("name", "prior"),
    [
        ("normal", dist.Normal(0.1, 0.7)),
        ("laplace", dist.Laplace(0.1, 0.7)),
        ("student_t", dist.StudentT(3.0, 0.1, 0.7)),
        ("spike_and_slab", spike_and_slab(slab=1.5, spike=0.1, pi=0.25)),
    ],
)
@pytest.mark.parametrize("posterior", ["WeightNormal", "Normal"])
def test_a_sampled_kl_is_unbiased(name, prior, posterior, q):
    if posterior == "Normal":
        q = torch.distributions.Normal(q.mean, q.stddev)
    many = 4_000
    sampled = kl_divergence(q.expand((many, 2, 3)), MonteCarloKL(prior)).flatten(1).sum(1)
    assert sampled.shape == (many,)
    assert z_of_mean(sampled, GOLDEN[name]).abs() < 5


def test_truncated_log_normal(double):
    q = TruncatedLogNormal(tensor(golden.MU), tensor(golden.LOG_SIGMA))
    expected = GOLDEN["truncated_log_normal"]
    torch.testing.assert_close(kl_divergence(q, TruncatedLogUniform()), tensor(expected["kl"]), rtol=1e-7, atol=0)
    torch.testing.assert_close(q.mean, tensor(expected["mean"]), rtol=1e-7, atol=0)
    torch.testing.assert_close(q.variance, tensor(expected["variance"]), rtol=1e-6, atol=0)
    torch.testing.assert_close(q.snr**-2, q.log_alpha.exp())
    torch.testing.assert_close(q.inverse_alpha, (-q.log_alpha).exp())
    assert z_of_mean(q.rsample((200_000,)), q.mean).abs().max() < 5


@pytest.mark.parametrize("mu", [0.0, -1e-3, -1.0, -10.0, -19.99, -20.0])
@pytest.mark.parametrize("log_sigma", [-20.0, -5.0, -1.0, 1.0, 3.0, 5.0])
def test_float32_draws_are_the_quantiles(mu, log_sigma, monkeypatch):
    """Of SciPy's truncated normal, into both tails. At the last quantile float32 rounds a probability near 1 by 3e-8,
    of a density of 2.5e-5 per sigma: 0.0012 sigma, 0.002 of the truncated law's deviation."""
    u = torch.tensor([0.0, 1e-4, 0.01, 0.3, 0.5, 0.9, 0.99, 0.9999, 1.0])
    monkeypatch.setattr(torch, "rand", lambda shape, dtype, device: u.to(dtype)[:, None].expand(shape).clone())
    q = TruncatedLogNormal(torch.tensor([mu]), torch.tensor([log_sigma]))
    drawn = q.rsample((len(u),))[:, 0]
    sigma, (mu, *_) = math.exp(float(q.log_sigma)), q.mu.tolist()
    law = scipy.stats.truncnorm((-20 - mu) / sigma, -mu / sigma, mu, sigma)
    expected = law.ppf(u.double().clamp(1e-5, 1 - 1e-5).numpy())
    assert drawn.dtype == torch.float32
    allowed = 2e-3 * law.std() + 2e-6 * np.abs(expected)  # and what float32 holds of exp
    assert (np.abs(drawn.double().log().numpy() - expected) <= allowed + 1e-7).all()


def test_hard_concrete(double):
    gate = HardConcrete(tensor(golden.LOCATION))
    torch.testing.assert_close(gate.active, tensor(GOLDEN["hard_concrete"]["active"]), rtol=1e-6, atol=0)
    torch.testing.assert_close(gate.mean, tensor(GOLDEN["hard_concrete"]["gate"]))
    draws = gate.rsample((100_000,))
    assert z_of_mean((draws > 0).double(), gate.active).abs().max() < 5
    assert (draws == 0).any()
    assert (draws == 1).any()
    charged = kl_divergence(InputNoise(torch.randn(4, 6), gate), L0(0.5))  # 6 inputs, 3 gates, 8 weights each
    torch.testing.assert_close(charged, 0.5 * 8 * gate.active)


def test_concrete_dropout(double):
    logit = torch.full((3,), golden.P).logit()
    q = ConcreteDropout(tensor(golden.THETA), ScaledConcrete(logit))
    assert kl_divergence(q, dist.Normal(0.0, 0.7)).sum().item() == pytest.approx(GOLDEN["concrete"], rel=1e-12)
    cold = ScaledConcrete(logit, temperature=1e-4)  # the Bernoulli variable it relaxes
    draws = cold.rsample((100_000,))
    assert z_of_mean(draws, 1.0).abs().max() < 5
    assert z_of_mean((draws == 0).double(), golden.P).abs().max() < 5
    torch.testing.assert_close(cold.variance, torch.full((3,), GOLDEN["gaussian_dropout_variance"]))


def horseshoe_scale():
    units = LogNormalParameters(*(tensor(values) for values in golden.LOG_NORMAL))
    layer = LogNormalParameters(units.mu[:1], units.log_sigma2[:1])
    return layer, units, LogNormalScale(layer, layer, units, units)


def test_group_horseshoe(q):
    _, units, scale = horseshoe_scale()
    gamma, inverse = kl_log_normal_gamma(units, 2 * math.log(golden.TAU0)), kl_log_normal_inverse_gamma(units)
    assert gamma.sum().item() == pytest.approx(GOLDEN["log_normal_gamma"], rel=1e-6)
    assert inverse.sum().item() == pytest.approx(GOLDEN["log_normal_inverse_gamma"], rel=1e-6)
    parts = (gamma[:1], inverse[:1], kl_log_normal_gamma(units, 0.0), inverse)
    found = kl_divergence(GroupScale(q, scale), GroupHorseshoe(golden.TAU0)).sum()
    assert found.item() == pytest.approx(sum(part.sum().item() for part in parts) + GOLDEN["standard_normal"], rel=1e-7)


def test_horseshoe_scales_are_log_normal_and_share_the_layers_draw(double):
    _, _, scale = horseshoe_scale()
    draws = scale.rsample((200_000,)).log()
    assert z_of_mean(draws, scale.mu).abs().max() < 5
    torch.testing.assert_close(draws.var(0), scale.sigma2, rtol=0.02, atol=0)
    shared = 0.25 * 2 * tensor(golden.LOG_NORMAL[1])[0].exp()
    torch.testing.assert_close(torch.cov(draws.T)[0, 1], shared, rtol=0.1, atol=0)
    log_normal = torch.distributions.LogNormal(scale.mu, scale.sigma2.sqrt())
    torch.testing.assert_close(scale.mean, log_normal.mean)
    torch.testing.assert_close(scale.variance, log_normal.variance)
    torch.testing.assert_close(scale.log_mode.exp(), log_normal.mode)


def test_group_normal_jeffreys(q):
    """Scales with the weights' own parameters: the two parts are two golden values."""
    scale = WeightNormal(q.theta.flatten(), log_sigma2=q.log_sigma2.flatten())
    wide = WeightNormal(q.theta.reshape(1, 6), log_sigma2=q.log_sigma2.reshape(1, 6))
    found = kl_divergence(GroupScale(wide, scale), GroupNormalJeffreys()).sum()
    expected = GOLDEN["log_uniform_molchanov"] + GOLDEN["standard_normal"]
    assert found.item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.slow
def test_the_golden_file_is_what_its_script_computes():
    assert flat(golden.compute()) == pytest.approx(flat(GOLDEN))


def flat(values):
    """Numbers of nested dicts and lists, in order."""
    if isinstance(values, dict | list):
        return [number for value in (values.values() if isinstance(values, dict) else values) for number in flat(value)]
    return [values]
