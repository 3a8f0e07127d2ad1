"""Input noise and its factors: moments in closed form, draws of rank one per unit, a KL per noise variable."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

from pyro_vd.posteriors import InputNoise, ScaledBernoulli, WeightNormal
from pyro_vd.priors import EmpiricalBayes, Flat, LogUniform
from tests.reference.z_test import z_of_mean

pytestmark = pytest.mark.usefixtures("double")

LINEAR, CONV, TRANSPOSED = ((5, 4), 1), ((5, 4, 3, 3), 1), ((4, 5, 3), 0)
SHAPES = pytest.mark.parametrize(("shape", "dim"), [LINEAR, CONV, TRANSPOSED])


def gaussian(units, low=-2.0, high=1.0):
    return WeightNormal(torch.ones(units), log_alpha=torch.linspace(low, high, units))


def along(values, shape, dim):
    """One number per input, spread over a weight of that shape by index, not by the code under test."""
    out = torch.empty(shape)
    for j, value in enumerate(values):
        out.select(dim, j).fill_(value)
    return out


# Mutants: 1 - p for p, no rescaling, p / (1 - p)^2.
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9])
def test_scaled_bernoulli(p):
    q = ScaledBernoulli(torch.tensor([p]))
    assert q.mean == 1
    assert q.variance.item() == pytest.approx(p / (1 - p))
    draws = q.rsample(torch.Size([40_000]))[:, 0]
    assert set(draws.unique().tolist()) <= {0.0, 1 / (1 - p)}
    if p:
        assert abs(z_of_mean(draws, 1.0)) < 5
        assert abs(z_of_mean(draws.eq(0).double(), p)) < 5
    assert kl_divergence(q, Flat()) == 0


# Mutants: noise along the outputs, one variable per weight, one for all, log-variance for log-alpha.
@SHAPES
def test_moments_and_draws(shape, dim):
    theta = torch.randn(shape)
    q = InputNoise(theta, gaussian(4), dim)
    alpha = torch.linspace(-2.0, 1.0, 4).exp()
    assert q.batch_shape == theta.shape
    torch.testing.assert_close(q.mean, theta)
    torch.testing.assert_close(q.variance, theta**2 * along(alpha, shape, dim))
    torch.testing.assert_close(q.log_alpha, along(alpha.log(), shape, dim))
    draws = q.rsample(torch.Size([20_000]))
    factors = draws / theta
    for j in range(4):
        unit = factors.select(dim + 1, j).flatten(1)
        torch.testing.assert_close(unit, unit[:, :1].expand_as(unit))  # one variable for all weights of the unit
        assert abs(z_of_mean(unit[:, 0], 1.0)) < 5
        assert abs(z_of_mean((unit[:, 0] - 1) ** 2, alpha[j])) < 5
    first, second = (factors.select(dim + 1, j).flatten(1)[:, 0] - 1 for j in (0, 1))
    assert abs(z_of_mean(first * second, 0.0)) < 5


def test_a_channel_serves_its_positions():
    q = InputNoise(torch.ones(2, 6), gaussian(2))
    torch.testing.assert_close(q.log_alpha[0], torch.tensor([-2.0, -2.0, -2.0, 1.0, 1.0, 1.0]))
    draw = q.rsample()
    assert (draw[:, :3] == draw[0, 0]).all()
    assert (draw[:, 3:] == draw[0, 3]).all()
    assert draw[0, 0] != draw[0, 3]
    with pytest.raises(ValueError, match="6 inputs are not a multiple of 4"):
        InputNoise(torch.ones(2, 6), gaussian(4))
    for theta, noise in (
        (torch.ones(6), gaussian(6)),
        (torch.ones(2, 6), WeightNormal(torch.ones(()), torch.ones(()))),
    ):
        with pytest.raises(ValueError, match=r"two dimensions or more and noise of shape \(units,\)"):
            InputNoise(theta, noise)
    assert InputNoise(torch.ones(2, 4), gaussian(4), dim=-1).rsample().shape == (2, 4)


# Mutants: a KL per weight, a KL of the channel counted once per position.
@pytest.mark.parametrize("prior", [LogUniform(), LogUniform("exact"), EmpiricalBayes()])
def test_the_kl_counts_noise_variables(prior):
    noise = gaussian(3, -4.0, 0.0)
    kl = kl_divergence(InputNoise(torch.randn(7, 6), noise), prior)
    assert kl.shape == (3,)
    torch.testing.assert_close(kl, kl_divergence(WeightNormal(torch.tensor(1.0), log_alpha=noise.log_alpha), prior))
    assert kl_divergence(InputNoise(torch.randn(7, 6), ScaledBernoulli(torch.full((6,), 0.5))), Flat()).sum() == 0


@pytest.mark.parametrize("prior", [Flat(), torch.distributions.Normal(0.0, 1.0)])
def test_priors_that_do_not_fit_are_refused(prior):
    with pytest.raises(NotImplementedError):
        kl_divergence(InputNoise(torch.randn(7, 3), gaussian(3)), prior)


def test_there_is_no_density_and_no_expansion():
    q = InputNoise(torch.randn(2, 3), gaussian(3))
    with pytest.raises(NotImplementedError, match="InputNoise has no density"):
        q.log_prob(torch.zeros(2, 3)) + 1
    assert q.expand((2, 3)) is q
    with pytest.raises(NotImplementedError, match="does not expand"):
        q.expand((4, 2, 3))
    assert not hasattr(InputNoise(torch.ones(2, 1), ScaledBernoulli(torch.tensor([0.5]))), "log_alpha")


# Kingma et al. 2015, eq. 14, in the paper's own sign and variable; T21 of the reference for its range.
# Mutant: the cubic beyond alpha = 1, where it is -1.9e6 at log_alpha = 5.
def test_kingmas_cubic_stays_at_its_value_at_1():
    q = WeightNormal(torch.ones(3), log_alpha=torch.tensor([0.0, 5.0, 30.0]))
    assert kl_divergence(q, LogUniform("kingma")).sub(0.38947).abs().max() < 1e-5


@pytest.mark.parametrize("log_alpha", [-20.0, -6.0, -1.0, -0.1, 0.0])
def test_kingmas_cubic(log_alpha):
    alpha = math.exp(log_alpha)
    c1, c2, c3 = 1.161451241083230, -1.502041176441722, 0.586299206427007
    minus_kl = 0.5 * log_alpha + c1 * alpha + c2 * alpha**2 + c3 * alpha**3
    q = WeightNormal(torch.tensor([1.0, -0.3]), log_alpha=torch.tensor(log_alpha))
    constant = (0.57721566490153286 + math.log(2)) / 2
    torch.testing.assert_close(kl_divergence(q, LogUniform("kingma")), torch.full((2,), constant - minus_kl))
    exact = kl_divergence(q, LogUniform("exact"))
    assert (kl_divergence(q, LogUniform("kingma")) - exact).abs().max() < 0.04  # at alpha = 1 it is 0.0372 off
