import math

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.distributions.testing.gof import auto_goodness_of_fit
from torch.distributions import Normal, kl_divergence

from pyro_vd.posteriors import WeightNormal
from tests.reference.z_test import z_of_mean, z_of_variance

RATES = ("log_sigma2", "log_alpha")
exact = settings(derandomize=True, deadline=None, max_examples=200)
far_from_zero = st.floats(1e-3, 1e3).flatmap(lambda x: st.sampled_from((x, -x)))
log_sigma2s = st.floats(-20, 4)


def f64(x) -> torch.Tensor:
    return torch.as_tensor(x, dtype=torch.float64)


def weight_normal(rate: str, theta, log_sigma2) -> WeightNormal:
    """The same distribution in either parametrization."""
    theta, log_sigma2 = f64(theta), f64(log_sigma2)
    if rate == "log_alpha":
        return WeightNormal(theta, log_alpha=log_sigma2 - theta.square().log())
    return WeightNormal(theta, log_sigma2=log_sigma2)


def close(actual: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol)


@pytest.fixture(params=RATES)
def rate(request) -> str:
    return request.param


# Mutants: sigma for sigma^2, a factor 2 in log_alpha, alpha theta for alpha theta^2, 2 pi dropped.
@pytest.mark.parametrize("rate", RATES)
@exact
@given(theta=far_from_zero, log_sigma2=log_sigma2s, z=st.floats(-6, 6))
def test_agrees_with_torch_normal(rate, theta, log_sigma2, z):
    q = weight_normal(rate, theta, log_sigma2)
    sigma = f64(log_sigma2 / 2).exp()
    normal = Normal(f64(theta), sigma)
    value = normal.loc + z * sigma
    close(q.mean, normal.mean)
    close(q.variance / normal.variance, f64(1.0))
    close(q.stddev / normal.stddev, f64(1.0))
    close(q.log_prob(value), normal.log_prob(value), rtol=1e-11)
    close(q.entropy(), normal.entropy())


# Mutants: log_alpha without the 2, inverse_alpha as alpha, either rate returned for the other.
@pytest.mark.parametrize("rate", RATES)
@exact
@given(theta=far_from_zero, log_sigma2=log_sigma2s)
def test_the_two_rates_and_inverse_alpha_agree(rate, theta, log_sigma2):
    q = weight_normal(rate, theta, log_sigma2)
    close(q.log_sigma2, f64(log_sigma2))
    close(q.log_alpha, f64(log_sigma2 - 2 * math.log(abs(theta))))
    close(q.inverse_alpha * q.variance / q.theta.square(), f64(1.0))


# Mutant: a detached theta or rate in the density (log_alpha's variance depends on theta too).
def test_log_prob_gradients_equal_torch_normals(rate):
    theta, log_sigma2 = f64([0.3, -2.0]).requires_grad_(), f64([-3.0, 1.0]).requires_grad_()
    value = f64([0.5, -4.0])
    ours = torch.autograd.grad(weight_normal_of(rate, theta, log_sigma2).log_prob(value).sum(), (theta, log_sigma2))
    normal = Normal(theta, (log_sigma2 / 2).exp())
    theirs = torch.autograd.grad(normal.log_prob(value).sum(), (theta, log_sigma2))
    close(torch.stack(ours), torch.stack(theirs))


def weight_normal_of(rate, theta, log_sigma2) -> WeightNormal:
    """Like weight_normal, with the gradient of log_alpha's definition kept."""
    if rate == "log_alpha":
        return WeightNormal(theta, log_alpha=log_sigma2 - theta.square().log())
    return WeightNormal(theta, log_sigma2=log_sigma2)


# Mutants: sigma^2 for sigma in rsample, one noise shared by all weights, noise of the wrong shape.
def test_rsample_moments(rate):
    q = weight_normal(rate, [[0.5, -2.0], [0.1, 30.0]], [[-1.0, 3.0], [-8.0, 0.5]])
    draws = q.rsample(torch.Size([100_000]))
    assert draws.shape == (100_000, 2, 2)
    assert z_of_mean(draws, q.mean).abs().max() < 5
    assert z_of_variance(draws, q.variance).abs().max() < 5
    noise = ((draws - q.mean) / q.stddev).flatten(1)
    correlation = torch.corrcoef(noise.mT).triu(1) * len(draws) ** 0.5
    assert correlation.abs().max() < 5


# Mutant: rsample with a detached theta or scale.
def test_rsample_gradients_are_the_noise(rate):
    theta, rho = f64([0.5, -2.0]).requires_grad_(), f64([-1.0, 0.3]).requires_grad_()
    q = WeightNormal(theta, **{rate: rho})
    w = q.rsample()
    noise = ((w - theta) / q.stddev).detach()
    d_theta, d_rho = torch.autograd.grad(w.sum(), (theta, rho))
    close(d_rho, (0.5 * q.stddev * noise).detach())
    slope = noise * (rho / 2).exp().detach() * theta.detach().sign() if rate == "log_alpha" else 0.0
    close(d_theta, 1.0 + slope + torch.zeros_like(noise))
    assert not q.sample().requires_grad


# Mutant: float32 noise under a float64 posterior, or the other way round.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype(rate, dtype):
    q = WeightNormal(torch.ones(3, dtype=dtype), **{rate: torch.zeros(3, dtype=dtype)})
    for value in (q.rsample(), q.log_prob(q.sample()), q.entropy(), q.mean, q.variance, q.stddev, q.inverse_alpha):
        assert value.dtype == dtype


# Mutants: no broadcasting in the constructor; broadcasting the wrong way.
def test_broadcasts(rate):
    q = WeightNormal(torch.ones(3, 1), **{rate: torch.zeros(4)})
    assert q.batch_shape == (3, 4)
    assert q.event_shape == ()
    for value in (q.mean, q.variance, q.log_alpha, q.log_sigma2, q.inverse_alpha, q.rsample(), q.entropy()):
        assert value.shape == (3, 4)
    assert q.rsample(torch.Size([5])).shape == (5, 3, 4)


# Mutants: expand that forgets the parametrization, or that keeps one of the two tensors small.
def test_expand(rate):
    q = WeightNormal(torch.tensor([0.5, -2.0]), **{rate: torch.tensor([-1.0, 1.0])})
    wide = q.expand(torch.Size([3, 2]))
    assert type(wide) is WeightNormal
    assert wide.batch_shape == (3, 2)
    for name in ("mean", "variance", "stddev", "log_sigma2", "log_alpha", "inverse_alpha"):
        torch.testing.assert_close(getattr(wide, name), getattr(q, name).expand(3, 2), rtol=0, atol=0)
    assert wide.rsample().shape == (3, 2)
    value = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(wide.log_prob(value), q.log_prob(value).expand(3, 2), rtol=0, atol=0)
    with pytest.raises(RuntimeError):
        q.expand(torch.Size([3]))


# Mutant: a per-weight density where the event's sum is due.
def test_to_event_sums_the_density(rate):
    q = WeightNormal(torch.ones(3, 2), **{rate: torch.zeros(3, 2)})
    joint = q.to_event(2)
    assert joint.batch_shape == ()
    assert joint.event_shape == (3, 2)
    value = q.sample()
    torch.testing.assert_close(joint.log_prob(value), q.log_prob(value).sum())
    torch.testing.assert_close(joint.entropy(), q.entropy().sum())
    assert joint.rsample(torch.Size([4])).shape == (4, 3, 2)


# Mutant: 1/theta^2 or log theta on the way to any of these.
def test_theta_zero_is_an_ordinary_point_of_the_additive_form():
    theta, log_sigma2 = torch.zeros(1, requires_grad=True), torch.tensor([-2.0], requires_grad=True)
    q = WeightNormal(theta, log_sigma2=log_sigma2)
    assert q.mean.item() == 0
    assert q.inverse_alpha.item() == 0
    assert q.log_alpha.item() == math.inf
    value = torch.tensor([0.3])
    torch.testing.assert_close(q.log_prob(value), Normal(0.0, math.exp(-1)).log_prob(value))
    total = q.log_prob(value) + q.entropy() + q.inverse_alpha + q.rsample()
    assert all(g.isfinite().all() for g in torch.autograd.grad(total.sum(), (theta, log_sigma2)))


# Mutants: a noise floor (sigma = sqrt(alpha theta^2 + eps)), sqrt of the variance (infinite slope at 0).
def test_theta_zero_is_a_point_mass_of_the_multiplicative_form():
    theta, log_alpha = torch.zeros(1, requires_grad=True), torch.tensor([2.0], requires_grad=True)
    q = WeightNormal(theta, log_alpha=log_alpha)
    assert q.variance.item() == 0
    assert q.stddev.item() == 0
    assert q.inverse_alpha.item() == pytest.approx(math.exp(-2))
    w = q.rsample(torch.Size([10]))
    assert w.eq(0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(w.sum() + q.inverse_alpha.sum(), (theta, log_alpha)))


# Mutant: no refusal, and the KL's gradient in theta is NaN.
@pytest.mark.parametrize("use", [lambda q: q.log_prob(torch.ones(2)), lambda q: kl_divergence(q, Normal(0.0, 1.0))])
def test_a_point_mass_has_no_density_to_ask_for(use):
    theta = torch.tensor([1.0, 0.0])
    with pytest.raises(ValueError, match="an entry of theta is 0"):
        use(WeightNormal(theta, log_alpha=torch.zeros(2)))
    assert use(WeightNormal(theta, log_sigma2=torch.zeros(2))).isfinite().all()
    assert use(WeightNormal(theta, log_alpha=torch.zeros(2), validate_args=False))[0].isfinite()


# Mutant: a rate given twice is silently ignored.
@pytest.mark.parametrize("rates", [{}, dict.fromkeys(RATES, torch.tensor(0.0))])
def test_takes_exactly_one_rate(rates):
    with pytest.raises(ValueError, match="exactly one of log_sigma2 and log_alpha"):
        WeightNormal(torch.tensor(1.0), **rates)


# Mutants: validation skipped by default, or that looks at theta only, or that names the derived rate.
@pytest.mark.parametrize("validate_args", [None, True])
@pytest.mark.parametrize("bad", ["theta", "rate"])
def test_nan_parameters_are_refused_by_name(rate, bad, validate_args):
    theta, rho = torch.ones(2), torch.ones(2)
    (theta if bad == "theta" else rho)[1] = math.nan
    with pytest.raises(ValueError, match="theta" if bad == "theta" else rate):
        WeightNormal(theta, **{rate: rho}, validate_args=validate_args)


def test_validation_can_be_switched_off(rate):
    nan = torch.tensor(math.nan)
    assert WeightNormal(nan, **{rate: nan}, validate_args=False).mean.isnan()
    pyro.enable_validation(False)
    assert WeightNormal(nan, **{rate: nan}).mean.isnan()


# Mutant: log_prob that lets a NaN weight through while validation is on.
@pytest.mark.parametrize("expanded", [False, True])
def test_nan_values_are_refused(rate, expanded):
    q = WeightNormal(torch.ones(2), **{rate: torch.zeros(2)}, validate_args=True)
    q = q.expand(torch.Size([3, 2])) if expanded else q
    with pytest.raises(ValueError, match="support"):
        q.log_prob(torch.tensor([0.0, math.nan]))


# Mutant: expand that switches validation back on, or off.
@pytest.mark.parametrize("validate_args", [False, True])
def test_expand_keeps_the_validation_flag(rate, validate_args):
    q = WeightNormal(torch.ones(2), **{rate: torch.zeros(2)}, validate_args=validate_args)
    assert q._validate_args is validate_args
    assert q.expand(torch.Size([3, 2]))._validate_args is validate_args


# T18. Mutants: sigma for sigma^2 in the density or in the sampler, a sign.
@pytest.mark.parametrize("rate", RATES)
def test_the_sampler_fits_the_density(rate):
    pyro.set_rng_seed(0)
    q = WeightNormal(torch.tensor(-0.7), **{rate: torch.tensor(-1.3)})
    samples = q.sample(torch.Size([20_000]))
    assert auto_goodness_of_fit(samples, q.log_prob(samples).exp()) > 1e-3
    wrong = WeightNormal(torch.tensor(-0.7), **{rate: torch.tensor(-0.8)})
    assert auto_goodness_of_fit(samples, wrong.log_prob(samples).exp()) < 1e-3
