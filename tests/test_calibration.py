"""Posteriors as a whole: simulation-based calibration where the guide can be exact, and NUTS where it cannot."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS
from scipy import stats
from torch import nn

from pyro_vd import Gaussian, fit, guides, lift
from pyro_vd.inference.schedules import HoldThenDecay

SETS, EXAMPLES, WEIGHTS, DRAWS = 1500, 12, 3, 99
NOISE, BINS = 0.8, 10
FALSE_ALARM = 1e-6


def p_value_of_ranks(x, kl_weight=1.0, rate="log_sigma2", noise=NOISE) -> float:
    """Simulation-based calibration (Talts et al. 2018): truths are drawn from the prior, data from the truths, and the
    rank of a truth among draws from its posterior is uniform. A linear layer with an output per data set is a
    regression for each: one run fits all.

    Args:
        noise: what the model believes it is.
    """
    truth = torch.randn(SETS, WEIGHTS)
    y = x @ truth.mT + NOISE * torch.randn(len(x), SETS)
    model = lift(nn.Linear(WEIGHTS, SETS, bias=False), dist.Normal(0.0, 1.0), Gaussian(noise), num_data=len(x))
    guide = guides.sparse.Guide(model, parametrization=rate, init=-2.0)
    posterior = fit(
        model, guide, (x, y), epochs=400, batch_size=len(x), lr=0.1, lr_schedule=HoldThenDecay(100, 400),
        kl_schedule=lambda _: kl_weight, engine="eager", progress=False,
    )  # fmt: skip
    draws = torch.stack([posterior.weights()["weight"] for _ in range(DRAWS)])
    ranks = (draws < truth).sum(0).flatten()  # 0 .. DRAWS
    counts = torch.bincount(ranks * BINS // (DRAWS + 1), minlength=BINS)
    return float(stats.chisquare(counts.numpy()).pvalue)


@pytest.fixture
def orthogonal():
    basis, _ = torch.linalg.qr(torch.randn(EXAMPLES, WEIGHTS))
    return 2 * basis


# T17. Mutants: sigma for sigma^2, a likelihood of another width, a KL of another weight.
def test_draws_are_calibrated_where_the_guide_can_be_exact(orthogonal):
    assert p_value_of_ranks(orthogonal) > FALSE_ALARM


def test_calibration_finds_a_tempered_posterior(orthogonal):
    assert p_value_of_ranks(orthogonal, kl_weight=0.5) < FALSE_ALARM


def test_calibration_finds_a_wrong_noise(orthogonal):
    assert p_value_of_ranks(orthogonal, noise=NOISE / 2) < FALSE_ALARM


def test_calibration_finds_that_independent_weights_are_too_sure_of_correlated_inputs():
    common = torch.randn(EXAMPLES, 1)
    assert p_value_of_ranks(common + 0.3 * torch.randn(EXAMPLES, WEIGHTS)) < FALSE_ALARM


def test_calibration_finds_that_means_cannot_cross_zero_where_noise_follows_them(orthogonal):
    """With log_alpha sigma is 0 where theta is, which a proper prior forbids: a start of the wrong sign stays wrong."""
    assert p_value_of_ranks(orthogonal, rate="log_alpha") < FALSE_ALARM


def sampled(model, x, y, draws: int) -> dict[str, torch.Tensor]:
    """Draws of the weights by NUTS on the lifted model itself."""
    mcmc = MCMC(NUTS(model, max_tree_depth=7), num_samples=draws, warmup_steps=draws // 2, disable_progbar=True)
    with pyro.validation_enabled(False):
        mcmc.run(x, y)
    return mcmc.get_samples()


def test_nuts_on_a_lifted_regression_finds_its_posterior():
    """The lifted model is the density it claims to be: N/B, prior and likelihood."""
    x = torch.randn(8, 2, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [-0.5]], dtype=torch.float64) + NOISE * torch.randn(8, 1, dtype=torch.float64)
    precision = x.mT @ x / NOISE**2 + torch.eye(2)
    mean = torch.linalg.solve(precision, x.mT @ y / NOISE**2)[:, 0]
    net = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    weights = sampled(lift(net, dist.Normal(0.0, 1.0), Gaussian(NOISE), num_data=8), x, y, draws=400)["weight"][:, 0]
    scale = precision.inverse().diagonal().sqrt()
    # At 100 effective draws of 400 five standard errors are half a standard deviation.
    assert ((weights.mean(0) - mean).abs() < 0.5 * scale).all()
    torch.testing.assert_close(weights.std(0), scale, rtol=0.3, atol=0)
    torch.testing.assert_close(torch.corrcoef(weights.mT)[0, 1], cosine(precision.inverse()), rtol=0, atol=0.25)


def cosine(covariance):
    return covariance[0, 1] / covariance.diagonal().prod().sqrt()


@pytest.mark.slow  # a minute of NUTS
def test_a_network_predicts_like_nuts_and_is_surer():
    """Three tanh units: the mean is within a posterior standard deviation of the exact one's where there are data;
    independent weights have less spread than the posterior's."""
    x = torch.linspace(-2, 2, 24)[:, None]
    y = (1.5 * x).tanh() + 0.2 * torch.randn(24, 1)
    grid = torch.linspace(-3, 3, 13)[:, None]
    net = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
    model = lift(net, dist.Normal(0.0, 1.0), Gaussian(0.2), num_data=24)
    exact = sampled(model, x, y, draws=200)
    exact = torch.stack([outputs(model, exact, draw, grid) for draw in range(200)])
    posterior = fit(
        model, guides.sparse.Guide(model, init=-5.0), (x, y), epochs=1500, batch_size=24, lr=0.02,
        lr_schedule=HoldThenDecay(500, 1500), estimator="weights", engine="eager", seed=0, progress=False,
    )  # fmt: skip
    draws = posterior.predict(grid, 300)[..., 0]
    inside = grid[:, 0].abs() <= 2
    assert ((draws.mean(0) - exact.mean(0)).abs() < exact.std(0))[inside].all()
    assert 0.2 * exact.std(0).mean() < draws.std(0).mean() < exact.std(0).mean()
    assert draws.std(0)[~inside].mean() > draws.std(0)[inside].mean()


def outputs(model, weights, draw, grid):
    with torch.no_grad(), model.bound({site: values[draw] for site, values in weights.items()}) as net:
        return net(grid)[:, 0]
