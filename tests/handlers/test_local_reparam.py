"""local_reparam against exact moments, against weight sampling, and against every way around it."""

import functools
import math
import threading

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import linear as imported_linear

import pyro_vd
from pyro_vd import guides
from pyro_vd.handlers import NoisyWeight, NoLocalRule, local_reparam
from pyro_vd.handlers.rules import gaussian as gaussian_rules
from pyro_vd.handlers.rules import noisy_weight
from pyro_vd.posteriors import WeightNormal

pytestmark = pytest.mark.usefixtures("double")

Z_BOUND = 6.1  # false failure below 1e-6 over a thousand components


def gaussian(*shape, kind="log_sigma2"):
    """A posterior with means of order 1 and variances over two orders of magnitude."""
    theta, log_sigma2 = torch.randn(shape), torch.empty(shape).uniform_(-3.0, 1.0)
    if kind == "log_sigma2":
        return WeightNormal(theta, log_sigma2=log_sigma2)
    if kind == "log_alpha":
        return WeightNormal(theta, log_alpha=log_sigma2)
    return dist.Normal(theta, (0.5 * log_sigma2).exp())


def noisy(q, site="w", **options):
    """What a network gets in the place of a weight inside the handler."""
    with local_reparam(**options):
        return pyro.sample(site, q.to_event(len(q.batch_shape)))


@pytest.fixture
def moments(monkeypatch):
    """run -> (mean, variance) of its output, without Monte Carlo: the noise is 0, then 1."""

    def of(run):
        monkeypatch.setattr(gaussian_rules, "_noise_like", torch.zeros_like)
        mean = run()
        monkeypatch.setattr(gaussian_rules, "_noise_like", torch.ones_like)
        return mean, (run() - mean).square()

    return of


def exact_moments(op, q, bias=None):
    """Mean and variance of op(weight, bias), affine in both, from its action on every basis vector."""

    def terms(column, mean, variance):
        basis = torch.eye(mean.numel()).reshape(-1, *mean.shape)
        columns = torch.stack([column(e) for e in basis])
        return (
            torch.einsum("k...,k->...", columns, mean.reshape(-1)),
            torch.einsum("k...,k->...", columns.square(), variance.reshape(-1)),
        )

    if bias is None:
        return terms(lambda e: op(e, None), q.mean, q.variance)
    value, spread = (bias, torch.zeros_like(bias)) if torch.is_tensor(bias) else (bias.mean, bias.variance)
    mean, variance = terms(lambda e: op(e, torch.zeros_like(value)), q.mean, q.variance)
    shift, extra = terms(lambda e: op(torch.zeros_like(q.mean), e), value, spread)
    return mean + shift, variance + extra


def assert_moments(got, expected):
    torch.testing.assert_close(got[0], expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[1], expected[1].clamp(min=gaussian_rules.VARIANCE_FLOOR), rtol=1e-11, atol=1e-12)


OPS = {
    "linear": (F.linear, (3, 4), (5, 4), 5, {}),
    "linear over a sequence": (F.linear, (2, 3, 4), (5, 4), 5, {}),
    "linear of one example": (F.linear, (4,), (5, 4), 5, {}),
    "conv1d": (F.conv1d, (2, 2, 7), (3, 2, 3), 3, {}),
    "conv1d strided": (F.conv1d, (2, 4, 9), (6, 2, 3), 6, {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
    "conv1d same": (F.conv1d, (2, 2, 6), (3, 2, 3), 3, {"padding": "same"}),
    "conv2d": (F.conv2d, (2, 2, 5, 5), (3, 2, 3, 3), 3, {}),
    "conv2d unbatched": (F.conv2d, (2, 5, 5), (3, 2, 3, 3), 3, {}),
    "conv2d stride": (F.conv2d, (2, 2, 6, 5), (3, 2, 3, 2), 3, {"stride": (2, 1)}),
    "conv2d padding": (F.conv2d, (2, 2, 4, 4), (3, 2, 3, 3), 3, {"padding": (2, 1)}),
    "conv2d dilation": (F.conv2d, (2, 2, 7, 6), (3, 2, 3, 2), 3, {"dilation": (2, 3)}),
    "conv2d groups": (F.conv2d, (2, 4, 4, 4), (4, 2, 3, 3), 4, {"groups": 2, "padding": 1}),
    "conv2d depthwise": (F.conv2d, (2, 3, 5, 5), (3, 1, 3, 3), 3, {"groups": 3, "stride": 2, "padding": "valid"}),
    "conv3d": (F.conv3d, (1, 2, 4, 4, 3), (2, 1, 2, 3, 2), 2, {"stride": (1, 2, 1), "padding": 1, "groups": 2}),
    "conv3d dilation": (F.conv3d, (1, 1, 4, 5, 3), (2, 1, 2, 2, 2), 2, {"dilation": (1, 2, 1)}),
    "conv_transpose1d": (F.conv_transpose1d, (2, 2, 5), (2, 3, 3), 3, {}),
    "conv_transpose1d all": (
        F.conv_transpose1d,
        (2, 4, 5),
        (4, 2, 3),
        4,
        {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2, "dilation": 2},
    ),
    "conv_transpose2d": (
        F.conv_transpose2d,
        (2, 2, 3, 4),
        (2, 1, 3, 2),
        2,
        {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0), "groups": 2},
    ),
    "conv_transpose3d": (F.conv_transpose3d, (1, 2, 2, 3, 2), (2, 2, 2, 2, 2), 2, {"stride": 2, "dilation": (1, 2, 1)}),
}
OPTION_ORDER = {
    F.linear: (),
    F.conv1d: ("stride", "padding", "dilation", "groups"),
    F.conv_transpose1d: ("stride", "padding", "output_padding", "groups", "dilation"),
}
OPTION_ORDER |= dict.fromkeys((F.conv2d, F.conv3d), OPTION_ORDER[F.conv1d])
OPTION_ORDER |= dict.fromkeys((F.conv_transpose2d, F.conv_transpose3d), OPTION_ORDER[F.conv_transpose1d])
DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}


# Mutants: sigma for sigma^2, x for x^2, |theta| or the bias in the variance, an option dropped on either path.
@pytest.mark.parametrize("kind", ["log_sigma2", "log_alpha", "normal"])
@pytest.mark.parametrize("bias_kind", ["absent", "deterministic", "random"])
@pytest.mark.parametrize("name", OPS)
def test_moments_are_exact(name, bias_kind, kind, moments):
    """T7, T8: mean and variance of every output, from the linear map itself."""
    op, x_shape, w_shape, out, options = OPS[name]
    x, q = torch.randn(x_shape), gaussian(*w_shape, kind=kind)
    bias = {"absent": None, "deterministic": -3 * torch.rand(out), "random": gaussian(out, kind=kind)}[bias_kind]
    w = noisy(q)
    b = noisy(bias, "b") if bias_kind == "random" else bias
    expected = exact_moments(lambda weight, shift: op(x, weight, shift, **options), q, bias)
    assert_moments(moments(lambda: op(x, w, b, **options)), expected)
    # The same call with keywords only, and with positions only.
    assert_moments(moments(lambda: op(input=x, weight=w, bias=b, **options)), expected)
    positional = [{**DEFAULTS, **options}[option] for option in OPTION_ORDER[op]]
    assert_moments(moments(lambda: op(x, w, b, *positional)), expected)


@st.composite
def convolutions(draw):
    """Any geometry: (operation, shape of the input, shape of the weight, options)."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, options = sizes(1, 3), {"stride": sizes(1, 3), "padding": sizes(0, 2), "dilation": sizes(1, 2)}
    extents = [d * (k - 1) + 1 + more for d, k, more in zip(options["dilation"], kernel, sizes(0, 3), strict=True)]
    into, out = (groups * draw(st.integers(1, 2)) for _ in range(2))
    op = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    return op, (draw(st.integers(0, 3)), into, *extents), (out, into // groups, *kernel), {**options, "groups": groups}


# Mutants: an option dropped on either path, a negative variance, another type than the operation's own.
@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(convolutions(), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_any_convolution_is_drawn_in_the_shape_and_type_of_its_own(moments, geometry, dtype, biased):
    """T25: means and variances are those of the operation itself on means, and on squares and variances."""
    op, x_shape, w_shape, options = geometry
    x, theta = torch.randn(x_shape, dtype=dtype), torch.randn(w_shape, dtype=dtype)
    q = WeightNormal(theta, log_sigma2=torch.empty_like(theta).uniform_(-3.0, 1.0))
    bias = torch.randn(w_shape[0], dtype=dtype) if biased else None
    mean, variance = moments(lambda: op(x, noisy(q), bias, **options))
    expected = op(x, q.mean, bias, **options)
    assert (mean.shape, mean.dtype, variance.dtype) == (expected.shape, dtype, dtype)
    assert (variance >= 0).all()
    torch.testing.assert_close(mean, expected)
    floor = gaussian_rules.VARIANCE_FLOOR
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(variance, op(x.square(), q.variance, **options).clamp(min=floor), **tolerance)


# Mutants: a rule that needs a noisy weight; a variance from the deterministic weight.
@pytest.mark.parametrize("op", [F.linear, F.conv1d])
def test_only_the_bias_is_random(op, moments):
    x, weight = (
        (torch.randn(3, 4), torch.randn(5, 4)) if op is F.linear else (torch.randn(2, 4, 6), torch.randn(5, 4, 3))
    )
    q = gaussian(5)
    shape = (-1, 1) if op is F.conv1d else (-1,)
    mean, variance = moments(lambda: op(x, weight, noisy(q)))
    torch.testing.assert_close(mean, op(x, weight, q.mean), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance, q.variance.reshape(shape).expand_as(mean), rtol=1e-11, atol=1e-12)


# Mutants: bias in the variance path, whatever the clamp hides (one NaN cause of convolution codes).
@pytest.mark.parametrize("shift", [-1e6, -5.0, 0.0, 7.0])
def test_deterministic_bias_leaves_the_variance_alone(shift, moments):
    x, q = torch.randn(2, 2, 5, 5), gaussian(3, 2, 3, 3)
    plain = moments(lambda: F.conv2d(x, noisy(q)))[1]
    shifted = moments(lambda: F.conv2d(x, noisy(q), torch.full((3,), shift)))[1]
    torch.testing.assert_close(shifted, plain, rtol=1e-8, atol=1e-8)


# Mutants: variance looked up twice squared, padding_idx dropped.
@pytest.mark.parametrize("kind", ["log_sigma2", "log_alpha", "normal"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 0}, {"scale_grad_by_freq": True}])
def test_embedding_moments(kind, options, moments):
    index, q = torch.tensor([[0, 3, 3], [5, 1, 0]]), gaussian(6, 2, kind=kind)
    expected = q.mean[index], q.variance[index]
    assert_moments(moments(lambda: F.embedding(index, noisy(q), **options)), expected)
    assert_moments(moments(lambda: F.embedding(input=index, weight=noisy(q), **options)), expected)


MASK = torch.tensor([[1.0, 0.0, 1.0, 0.5], [0.0, 1.0, -2.0, 1.0]])
SPELLINGS = {
    "F.linear": F.linear,
    "from-imported linear": imported_linear,
    "partial": lambda x, w: functools.partial(F.linear, weight=w)(x),
    "x @ W.T": lambda x, w: x @ w.T,
    "x @ W.mT": lambda x, w: x @ w.mT,
    "x @ W.t()": lambda x, w: x @ w.t(),
    "x @ torch.t(W)": lambda x, w: x @ torch.t(w),
    "x.matmul": lambda x, w: x.matmul(w.t()),
    "torch.matmul": lambda x, w: torch.matmul(x, w.t()),
    "torch.matmul keywords": lambda x, w: torch.matmul(input=x, other=w.t()),
    "torch.mm": lambda x, w: torch.mm(x, w.t()),
    "x.mm": lambda x, w: x.mm(w.t()),
    "W @ x": lambda x, w: (w @ x.T).T,
    "W.matmul": lambda x, w: w.matmul(x.T).T,
    "twice transposed": lambda x, w: F.linear(x, w.t().t()),
    "W * mask": lambda x, w: F.linear(x, w * MASK),
    "mask * W": lambda x, w: F.linear(x, MASK * w),
    "torch.mul(W, mask)": lambda x, w: F.linear(x, torch.mul(w, MASK)),
    "torch.mul(mask, W)": lambda x, w: F.linear(x, torch.mul(MASK, w)),
    "W.mul(mask)": lambda x, w: F.linear(x, w.mul(MASK)),
    "boolean mask": lambda x, w: F.linear(x, w * (MASK > 0)),
    "W * number": lambda x, w: F.linear(x, w * -2.0),
    "number * W": lambda x, w: F.linear(x, 3 * w),
    "row mask": lambda x, w: F.linear(x, w * MASK[:, 2:3]),
    "masked twice": lambda x, w: F.linear(x, 0.5 * (w * MASK)),
    "masked, transposed": lambda x, w: x @ (w * MASK).T,
    "transposed, masked": lambda x, w: x @ (MASK.T * w.T),
}


# Mutants: a table of patched functions (TyXe's hole), a mask not squared on the variance path, a lost transpose.
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_dense_layer(spelling, moments):
    program = SPELLINGS[spelling]
    x, q = torch.randn(3, 4), gaussian(2, 4)
    expected = exact_moments(lambda weight, _: program(x, weight), q)
    assert_moments(moments(lambda: program(x, noisy(q))), expected)


def test_batched_matmul(moments):
    x, q = torch.randn(2, 3, 4), gaussian(4, 5)
    assert_moments(moments(lambda: x @ noisy(q)), exact_moments(lambda weight, _: x @ weight, q))


# Mutant: a MeanVariance with more entries than the weight, its copies of one weight treated as independent.
def test_a_factor_that_repeats_the_weight_is_not_taken_for_independent_noise(moments):
    """w * ones(3, 1) holds each weight three times; a contraction over the copies has variance (sum x)^2 sigma^2."""
    x, q = torch.randn(2, 3), gaussian(1, 4)
    program = lambda w: x @ (w * torch.ones(3, 1))  # noqa: E731
    try:
        got = moments(lambda: program(noisy(q)))
    except NoLocalRule:
        return
    assert_moments(got, exact_moments(lambda weight, _: program(weight), q))


# Mutants: detached sigma, detached mean, sigma in place of its derivative.
@pytest.mark.parametrize("kind", ["log_sigma2", "log_alpha"])
@pytest.mark.parametrize("noise", [0.0, 1.0, -1.7])
def test_gradients_are_those_of_mean_plus_sigma_noise(kind, noise, monkeypatch):
    """The pathwise gradient of one output draw equals the dense formula's, in both parameters and in the input."""
    monkeypatch.setattr(gaussian_rules, "_noise_like", lambda t: torch.full_like(t, noise))
    x = torch.randn(2, 2, 4, requires_grad=True)
    theta, rate = torch.randn(3, 2, 2, requires_grad=True), torch.empty(3, 2, 2).uniform_(-2, 1).requires_grad_()
    q = WeightNormal(theta, **{kind: rate})
    variance = rate.exp() if kind == "log_sigma2" else rate.exp() * theta**2
    patches = x.unfold(2, 2, 1)
    mean = torch.einsum("nilk,oik->nol", patches, theta)
    dense = mean + noise * torch.einsum("nilk,oik->nol", patches**2, variance).sqrt()
    out = F.conv1d(x, noisy(q))
    weight = torch.randn_like(out) if noise else torch.randn(out.shape)
    for got, expected in zip(
        torch.autograd.grad((out * weight).sum(), (x, theta, rate)),
        torch.autograd.grad((dense * weight).sum(), (x, theta, rate)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def assert_same_moments(samples, mean, variance):
    """z-tests over the first axis, for Gaussian samples with these moments."""
    m = len(samples)
    z_mean = (samples.mean(0) - mean) / (variance / m).sqrt()
    z_variance = (samples.var(0) / variance - 1) * math.sqrt(m / 2)
    assert z_mean.abs().max() < Z_BOUND
    assert z_variance.abs().max() < Z_BOUND


# Mutants: any of the above that the exact tests and the rules could share, and noise shared by examples.
@pytest.mark.parametrize("case", ["dense", "conv"])
def test_draws_have_the_moments_of_weight_sampling(case):
    """T7: local draws and weight draws, both against the exact moments."""
    op, x, shape = (F.linear, torch.randn(4), (3, 4)) if case == "dense" else (F.conv1d, torch.randn(2, 5), (3, 2, 3))
    options = {} if case == "dense" else {"stride": 2, "padding": 1}
    q = gaussian(*shape)
    mean, variance = exact_moments(lambda weight, _: op(x[None], weight, **options)[0], q)
    m = 50_000
    local = op(x.expand(m, *x.shape), noisy(q), **options)
    assert_same_moments(local, mean, variance)
    draws = q.rsample((m // 10,))
    sampled = torch.vmap(lambda weight: op(x[None], weight, **options)[0])(draws)
    assert_same_moments(sampled, mean, variance)
    correlation = torch.corrcoef(local.flatten(1).T) - torch.eye(mean.numel())
    assert correlation.abs().max() * math.sqrt(m) < Z_BOUND  # local noise is independent over outputs


# Mutants: the docstring's claim dropped, a rule that shares its noise over positions.
def test_positions_of_a_convolution_lose_their_covariance():
    """T9: for a kernel of one weight, Cov(y0, y1) is sigma^2 x0 x1 in weight space and 0 here, and so is the ELBO."""
    x0, x1, theta, sigma2, m = 1.5, -0.8, 0.3, 0.49, 100_000
    x = torch.tensor([x0, x1])
    q = WeightNormal(torch.full((1, 1, 1), theta), log_sigma2=torch.full((1, 1, 1), math.log(sigma2)))
    local = F.conv1d(x.expand(m, 1, 2), noisy(q))[:, 0]
    weight = q.rsample((m,))[:, 0, 0] * x
    scale = sigma2 * abs(x0 * x1)
    for draws, covariance in ((local, 0.0), (weight, sigma2 * x0 * x1)):
        centered = draws - theta * x
        z = (centered.prod(-1).mean() - covariance) / (scale * math.sqrt(2 / m))
        assert z.abs() < Z_BOUND
    # E log N(t | y0 + y1, 1): both exact formulas, which differ by the covariance, sigma^2 x0 x1.
    target = 0.2
    fit = -0.5 * math.log(2 * math.pi) - 0.5 * (target - theta * (x0 + x1)) ** 2
    for draws, spread in ((local, sigma2 * (x0**2 + x1**2)), (weight, sigma2 * (x0 + x1) ** 2)):
        values = dist.Normal(draws.sum(-1), 1.0).log_prob(torch.tensor(target))
        assert (values.mean() - (fit - spread / 2)).abs() / (values.std() / math.sqrt(m)) < Z_BOUND


# Mutants: detached sigma, noise shared over the batch (higher variance), a biased estimator.
def test_gradient_is_unbiased_and_of_lower_variance_than_weight_sampling():
    """T10: Gaussian likelihood, closed-form gradient of the expected log likelihood, same noise budget."""
    x, t = torch.randn(20, 3), torch.randn(20, 1)
    theta, rate = torch.randn(1, 3).requires_grad_(), torch.full((1, 3), -1.0).requires_grad_()
    exact = -0.5 * ((t - x @ theta.T).square() + (x.square() @ rate.exp().T)).sum()
    expected = torch.cat(torch.autograd.grad(exact, (theta, rate)), 1)[0]

    def estimates(local, m=1_000):
        rows = []
        for _ in range(m):
            q = WeightNormal(theta, log_sigma2=rate)
            out = F.linear(x, NoisyWeight("w", q) if local else q.rsample())
            rows.append(torch.cat(torch.autograd.grad(-0.5 * (t - out).square().sum(), (theta, rate)), 1)[0])
        return torch.stack(rows)

    local, sampled = estimates(True), estimates(False)
    for draws in (local, sampled):
        z = (draws.mean(0) - expected) / (draws.std(0) / math.sqrt(len(draws)))
        assert z.abs().max() < Z_BOUND
    assert (local.var(0) < 0.5 * sampled.var(0)).all()


# Mutants: sqrt(0), an additive floor that survives no negative variance, a logarithm of theta.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["log_sigma2", "log_alpha"])
@pytest.mark.parametrize("op", [F.linear, F.conv2d])
def test_black_inputs_and_zero_means_have_finite_gradients(op, kind, dtype):
    """A deterministic bias and an all-black patch: the value may be finite while the gradient is NaN."""
    x_shape, w_shape = ((3, 4), (5, 4)) if op is F.linear else ((2, 1, 6, 6), (3, 1, 3, 3))
    for x in (torch.zeros(x_shape, dtype=dtype), torch.ones(x_shape, dtype=dtype)):
        for start in (0.0, 1e-30, 1.0):
            theta = torch.full(w_shape, start, dtype=dtype, requires_grad=True)
            rate = torch.full(w_shape, -8.0, dtype=dtype, requires_grad=True)
            bias = torch.full(w_shape[:1], -1.0, dtype=dtype, requires_grad=True)
            out = op(x, noisy(WeightNormal(theta, **{kind: rate})), bias)
            assert out.dtype == dtype
            out.square().sum().backward()
            assert out.isfinite().all()
            assert all(p.grad.isfinite().all() for p in (theta, rate, bias))


# Mutant: an absolute floor, which is noise of its own where inputs or targets are small numbers.
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("op", [F.linear, F.conv2d])
def test_noise_follows_the_unit_of_the_inputs(op, scale, moments):
    """Inputs in another unit give outputs in that unit; the gradient of the rate is that of the unit, too."""
    x_shape, w_shape = ((3, 4), (5, 4)) if op is F.linear else ((2, 1, 6, 6), (3, 1, 3, 3))
    x, rate = torch.rand(x_shape) + 0.1, torch.full(w_shape, -8.0, requires_grad=True)
    w = noisy(WeightNormal(torch.randn(w_shape), log_sigma2=rate))
    _, variance = moments(lambda: op(x, w))
    _, scaled = moments(lambda: op(scale * x, w) / scale)
    torch.testing.assert_close(scaled, variance)
    (gradient,) = torch.autograd.grad(variance.sum(), rate)
    (scaled_gradient,) = torch.autograd.grad(scaled.sum(), rate)
    assert gradient.abs().min() > 0
    torch.testing.assert_close(scaled_gradient, gradient)


def fft_conv(x, weight, bias=None):
    """Circular convolution of (batch, n) by (n,) through the FFT: rounding relative to the largest term."""
    if torch.overrides.has_torch_function((x, weight)):
        return torch.overrides.handle_torch_function(fft_conv, (x, weight), x, weight, bias)
    return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(weight), n=x.shape[-1])


# Mutants: var + 1e-8 instead of clamp(min=1e-8), no floor.
def test_negative_variances_of_fast_convolutions_are_clamped(monkeypatch):
    """F51: FFT algorithms return negatives of non-negative inputs, in float32 far below -1e-8."""
    monkeypatch.setattr(noisy_weight, "_RULES", dict(noisy_weight._RULES))
    noisy_weight.register_local(gaussian_rules.GAUSSIANS, fft_conv)(gaussian_rules._linear)
    x = torch.zeros(8, 64, dtype=torch.float32)
    x[:, :4] = 50 * torch.rand(8, 4, dtype=torch.float32)
    theta = torch.zeros(64, dtype=torch.float32, requires_grad=True)
    rate = torch.full((64,), -20.0, dtype=torch.float32)
    rate[:3] = 4.0
    rate.requires_grad_()
    assert fft_conv(x.square(), rate.exp()).min() < -1e-6  # the premise, else this test shows nothing
    out = fft_conv(x, noisy(WeightNormal(theta, log_sigma2=rate)))
    out.square().sum().backward()
    assert out.isfinite().all()
    assert theta.grad.isfinite().all()
    assert rate.grad.isfinite().all()


# Mutants: both paths masked, neither, > for >=, a mask from sigma^2 alone, the mask lost by transpose or product.
@pytest.mark.parametrize("kind", ["log_sigma2", "log_alpha", "normal"])
@pytest.mark.parametrize("route", ["linear", "matmul", "masked", "embedding", "bias"])
def test_threshold_masks_the_mean_path_only(kind, route, moments):
    theta = torch.tensor([[2.0, -0.5, 0.3, 0.0], [-1.0, 0.1, 4.0, 1e-3]])
    log_alpha = torch.tensor([[2.9, 3.1, -4.0, 5.0], [3.1, 2.9, 8.0, -1.0]])
    log_sigma2 = log_alpha + 2 * theta.abs().clamp(min=1e-2).log()
    q = {
        "log_sigma2": WeightNormal(theta, log_sigma2=log_sigma2),
        "log_alpha": WeightNormal(theta, log_alpha=log_alpha),
        "normal": dist.Normal(theta, (log_sigma2 / 2).exp()),
    }[kind]
    alpha = q.variance / theta.square()
    kept = torch.where((alpha < math.exp(3.0)) & (theta != 0), theta, 0.0)
    assert 0 < (kept != 0).sum() < (theta != 0).sum()
    x, index = torch.randn(3, 4), torch.tensor([1, 0, 1])
    program = {
        "linear": lambda w: F.linear(x, w),
        "matmul": lambda w: x @ w.T,
        "masked": lambda w: F.linear(x, 0.5 * w),
        "embedding": lambda w: F.embedding(index, w),
        "bias": lambda w: F.linear(x, torch.zeros(4, 4), w[0] if torch.is_tensor(w) else w),
    }[route]
    if route == "bias":
        theta, kept = theta[0], kept[0]
        first = getattr(q, "_noise_param", [None])[0]
        q = dist.Normal(q.mean[0], q.stddev[0]) if kind == "normal" else WeightNormal(theta, **{kind: first})
    mean, variance = moments(lambda: program(noisy(q, threshold=3.0)))
    unmasked_mean, unmasked_variance = moments(lambda: program(noisy(q)))
    expected = kept.expand(3, 4) if route == "bias" else program(kept)
    torch.testing.assert_close(mean, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(mean, unmasked_mean)
    torch.testing.assert_close(variance, unmasked_variance, rtol=1e-10, atol=1e-12)


# Mutant: > for >=, or a comparison of exponentials that rounding decides.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threshold_itself_is_masked_and_agrees_with_pruning(dtype):
    """log_alpha >= threshold goes: at equality too, as `alive` has it for the pruned network."""
    for threshold in torch.arange(-7.5, 8.0, 0.5).tolist():
        q = WeightNormal(torch.ones(1, dtype=dtype), log_alpha=torch.full((1,), threshold, dtype=dtype))
        w = noisy(q, threshold=threshold)
        assert gaussian_rules._mean(w).item() == 0.0, f"log_alpha == threshold == {threshold} was kept"


# Mutant: the mask multiplies the gradient of kept weights, or leaks gradient to masked means.
def test_masked_means_get_gradient_through_the_variance_only(monkeypatch):
    monkeypatch.setattr(gaussian_rules, "_noise_like", torch.zeros_like)
    theta = torch.tensor([[1.0, 2.0]], requires_grad=True)
    w = noisy(WeightNormal(theta, log_alpha=torch.tensor([[-1.0, 4.0]])), threshold=3.0)
    F.linear(torch.tensor([[1.0, 1.0]]), w).sum().backward()
    assert theta.grad.tolist() == [[1.0, 0.0]]


NO_RULE = {
    "torch.relu": (lambda w: torch.relu(w), "relu"),
    "method": (lambda w: w.relu(), "relu"),
    "F.relu": (lambda w: F.relu(w), "relu"),
    "sum": (lambda w: w.sum(), "sum"),
    "w + 1": (lambda w: w + 1, "add"),
    "1 + w": (lambda w: 1 + w, "add"),
    "x + w": (lambda w: torch.ones(4, 4) + w, "add"),
    "w - 1": (lambda w: w - 1, "sub"),
    "1 - w": (lambda w: 1 - w, "sub"),
    "w / 2": (lambda w: w / 2, "div"),
    "1 / w": (lambda w: 1 / w, "div"),
    "-w": (lambda w: -w, "neg"),
    "w ** 2": (lambda w: w**2, "pow"),
    "w[0]": (lambda w: w[0], "getitem|index"),
    "w[:, 1:]": (lambda w: w[:, 1:], "getitem|index"),
    "x[w]": (lambda w: torch.ones(4)[w], "getitem|index"),
    "iteration": (lambda w: list(w), "iter"),
    "in-place": (lambda w: torch.ones(4, 4).add_(w), "add_"),
    "torch.cat list": (lambda w: torch.cat([w, w]), "cat"),
    "torch.stack tuple": (lambda w: torch.stack((torch.ones(4, 4), w)), "stack"),
    "nested list": (lambda w: torch.einsum("ij,jk->ik", [torch.ones(2, 4), w]), "einsum"),
    "multi_dot list": (lambda w: torch.linalg.multi_dot([torch.ones(2, 4), w]), "multi_dot"),
    "keyword": (lambda w: torch.addmm(torch.ones(4), mat1=torch.ones(2, 4), mat2=w), "addmm"),
    "F.normalize": (lambda w: F.normalize(w), "norm"),
    "reshape": (lambda w: w.reshape(-1), "reshape"),
    "dtype": (lambda w: w.to(torch.float32), "to"),
    "detach": (lambda w: w.detach(), "detach"),
    "layer_norm": (lambda w: F.layer_norm(torch.ones(2, 4, 4), (4, 4), w), "layer_norm"),
    "embedding_bag": (lambda w: F.embedding_bag(torch.tensor([[0, 1]]), w), "embedding_bag"),
    "F.bilinear": (lambda w: F.bilinear(torch.ones(2, 1), torch.ones(2, 1), w), "bilinear"),
    "as a scale": (lambda w: F.linear(torch.ones(2, 4), torch.ones(4, 4) / w), "div"),
}


# Mutants: only positional, only top-level arguments looked at; an operator that falls back to object's.
@pytest.mark.parametrize("name", NO_RULE)
def test_no_rule_is_refused_by_site_and_operation(name):
    program, op = NO_RULE[name]
    with pytest.raises(NoLocalRule, match=r"'fc1\.weight'") as refusal:
        program(noisy(gaussian(4, 4), "fc1.weight"))
    assert isinstance(refusal.value, TypeError)
    named = str(refusal.value).split("reached ")[1].split(",")[0]
    assert any(word in named for word in op.split("|")), f"the refusal names {named!r}"


# Mutant: object's own comparison, which answers False and True.
@pytest.mark.parametrize("compare", [lambda w: w == 0, lambda w: w != 0, lambda w: w > 0, lambda w: w <= 0])
def test_comparisons_do_not_slip_through(compare):
    with pytest.raises((NoLocalRule, TypeError)):
        compare(noisy(gaussian(2, 2)))


# Mutant: a product or a network applied to a weight taken for a linear layer.
def test_products_of_two_noisy_weights_are_refused():
    w = noisy(gaussian(3, 3))
    for program in (lambda: w * w, lambda: w @ w, lambda: torch.mm(w, w), lambda: F.linear(w, torch.eye(3))):
        with pytest.raises(NoLocalRule, match="'w'"):
            program()


class Marker(WeightNormal):
    """A posterior with the Gaussian rules, by inheritance."""


class Unruled(dist.Laplace):
    """A posterior with a rule for one operation that is not linear."""


# Mutant: the first argument's type decides for all.
def test_a_rule_serves_only_when_it_is_every_noisy_arguments_rule(monkeypatch, moments):
    """A Gaussian weight with a bias of another type must not read the other's variance as a Gaussian's."""
    monkeypatch.setattr(noisy_weight, "_RULES", dict(noisy_weight._RULES))
    noisy_weight.register_local((Unruled,), torch.relu)(lambda op, w: op(w.draw()))
    bias = NoisyWeight("fc1.bias", Unruled(torch.zeros(2), torch.ones(2)))
    with pytest.raises(NoLocalRule, match=r"fc1\.bias"):
        F.linear(torch.ones(3, 2), noisy(gaussian(2, 2)), bias)
    # A subclass does inherit.
    q = Marker(torch.ones(2, 2), log_sigma2=torch.zeros(2, 2))
    mean, variance = moments(lambda: F.linear(torch.ones(3, 2), noisy(q)))
    assert (mean == 2).all()
    torch.testing.assert_close(variance, torch.full((3, 2), 2.0))


# Mutant: a layer that reads its weight as one op, silently.
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("net", "select", "op"),
    [
        (lambda: nn.BatchNorm1d(3), "weight", "batch_norm"),
        (lambda: nn.LayerNorm(4), "weight", "layer_norm"),
        (lambda: nn.PReLU(), "weight", "prelu"),
    ],
)
def test_modules_without_a_rule_are_refused_in_a_network(net, select, op, training):
    model = pyro_vd.lift(net().double(), dist.Normal(0.0, 1.0), pyro_vd.Gaussian(1.0), 2, select=[select])
    model.train(training)
    guide = guides.sparse.Guide(model)
    with pytest.raises(NoLocalRule, match=op) as refusal, local_reparam():
        pyro_vd.AnalyticELBO().terms(model, guide, torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    assert repr(select) in str(refusal.value)


# Mutants: a new draw per operation; operators that refuse although a fallback was asked for.
@pytest.mark.parametrize("name", [name for name in NO_RULE if name != "in-place"])
def test_fallback_sample_gives_one_draw(name):
    program = NO_RULE[name][0]
    if name in ("x[w]", "embedding_bag", "F.bilinear"):
        pytest.skip("the operation itself refuses such a weight")
    w = noisy(gaussian(4, 4), fallback="sample")
    got, again, expected = program(w), program(w), program(w.draw())
    for value in (got, again):
        for part, wanted in zip(value, expected, strict=True) if isinstance(expected, list) else [(value, expected)]:
            assert torch.equal(part, wanted)


# Mutant: every derived weight draws for itself, so that relu(w.t()) is not relu(w).t().
def test_fallback_sample_is_one_draw_through_masks_and_transposes():
    w = noisy(gaussian(2, 4), fallback="sample")
    assert torch.equal(torch.relu(w.t()), torch.relu(w).t())
    assert torch.equal(torch.relu(w * MASK), torch.relu(w.draw() * MASK))


# Mutants: a detached draw; the draw of a rule's op under fallback (it must stay local).
def test_fallback_sample_keeps_gradients_and_local_rules():
    theta = torch.zeros(2, 2, requires_grad=True)
    w = noisy(WeightNormal(theta, log_sigma2=torch.zeros(2, 2)), fallback="sample")
    (gradient,) = torch.autograd.grad(torch.exp(w).sum(), theta)
    torch.testing.assert_close(gradient, w.draw().exp())
    assert len(F.linear(torch.ones(5, 2), w)[:, 0].unique()) == 5


@pytest.mark.parametrize("fallback", ["Sample", None, "", True])
def test_bad_fallback(fallback):
    with pytest.raises(ValueError, match="fallback"):
        local_reparam(fallback=fallback)


def small_pair(prior=pyro_vd.LogUniform):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).double()
    model = pyro_vd.lift(net, prior, pyro_vd.Categorical, 6)
    return model, guides.sparse.Guide(model), torch.randn(6, 1, 4, 4), torch.randint(3, (6,))


# Mutants: the weight drawn although unused; a log density evaluated on the way.
def test_no_weight_is_sampled_and_no_density_evaluated(monkeypatch):
    model, guide, x, y = small_pair()

    def refuse(*_, **__):
        raise AssertionError("wasted work")

    monkeypatch.setattr(WeightNormal, "rsample", refuse)
    monkeypatch.setattr(WeightNormal, "log_prob", refuse)
    monkeypatch.setattr(pyro_vd.LogUniform, "log_prob", refuse)
    with local_reparam():
        assert pyro_vd.AnalyticELBO().differentiable_loss(model, guide, x, y).isfinite()
    with pytest.raises(AssertionError, match="wasted work"):
        pyro_vd.AnalyticELBO().differentiable_loss(model, guide, x, y)


# Mutants: the log_alpha threshold or the deterministic sites of a Delta guide caught by the handler.
def test_sites_that_are_observed_or_have_no_rules_are_left_alone():
    with local_reparam():
        assert torch.is_tensor(pyro.sample("d", dist.Delta(torch.ones(2))))
        assert torch.is_tensor(pyro.sample("p", dist.Gamma(1.0, 1.0)))
        assert torch.is_tensor(pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0)))
        with pyro.poutine.condition(data={"w": torch.zeros(2)}):
            assert torch.is_tensor(pyro.sample("w", dist.Normal(torch.zeros(2), 1.0)))
        assert isinstance(pyro.sample("w", dist.Normal(torch.zeros(2), 1.0)), NoisyWeight)


# Mutant: a matrix whose type has no rules at all, sampled without a word.
def test_a_weight_of_a_type_without_rules_is_refused_when_it_is_used():
    with local_reparam():
        weight = pyro.sample("fc1.weight", dist.LogNormal(torch.zeros(2, 3), 1.0).to_event(2))
        with pytest.raises(NoLocalRule, match=r"'fc1\.weight'"):
            F.linear(torch.ones(4, 3), weight)
    assert torch.is_tensor(pyro.sample("w", dist.Normal(torch.zeros(2), 1.0)))


# Mutants: torch functions replaced, a function mode left on the stack, state kept after an error.
def test_nothing_global_is_patched():
    def state():
        owners = (F, torch, torch.Tensor, nn.Linear, nn.Conv2d)
        return [dict(vars(owner)) for owner in owners], torch.overrides._get_current_function_mode_stack()

    before = state()
    model, guide, x, y = small_pair()
    seen = []
    model.net[1].register_forward_hook(lambda *_: seen.append(state()))
    with local_reparam():
        pyro_vd.AnalyticELBO().differentiable_loss(model, guide, x, y)
        with pytest.raises(RuntimeError):
            pyro_vd.AnalyticELBO().differentiable_loss(model, guide, x[:, :, :1], y)
        inside = state()
    assert seen[0] == inside == before == state()
    assert not any(hasattr(module, "weight") for module in model.net if isinstance(module, nn.Linear | nn.Conv2d))
    assert torch.is_tensor(pyro.sample("w", dist.Normal(torch.zeros(2), 1.0)))


# Mutant: a function mode or a table shared by threads.
def test_threads_do_not_see_each_other():
    """Two networks run at once on weights of two handlers; a third thread runs plain PyTorch. (pyro.sample itself is
    not thread-safe: its stack of handlers is one list.)"""
    x, plain = torch.randn(64, 4), nn.Linear(4, 3).double()
    expected = plain(x)
    weights = [noisy(gaussian(3, 4), f"w{i}", fallback=("raise", "sample")[i]) for i in range(2)]
    gate, results = threading.Barrier(3), {}

    def strict():
        gate.wait(10)
        for _ in range(50):
            F.linear(x, weights[0])
            with pytest.raises(NoLocalRule, match="'w0'"):
                torch.relu(weights[0])
        results["strict"] = True

    def lenient():
        gate.wait(10)
        results["lenient"] = all(torch.equal(torch.relu(weights[1]), weights[1].draw().relu()) for _ in range(50))

    def ordinary():
        gate.wait(10)
        results["ordinary"] = all(torch.equal(plain(x), expected) for _ in range(50))

    threads = [threading.Thread(target=target) for target in (strict, lenient, ordinary)]
    with local_reparam():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert results == {"strict": True, "lenient": True, "ordinary": True}


# Mutant: the outer handler overwrites the inner one's weight.
def test_nested_handlers_let_the_inner_one_decide():
    q = gaussian(2, 2)
    with local_reparam(threshold=1.0, fallback="sample"):
        outer = pyro.sample("outer", q.to_event(2))
        with local_reparam(threshold=2.0):
            inner = pyro.sample("inner", q.to_event(2))
        after = pyro.sample("after", q.to_event(2))
    assert (outer.threshold, outer.fallback) == (after.threshold, after.fallback) == (1.0, "sample")
    assert (inner.threshold, inner.fallback) == (2.0, "raise")
    with local_reparam(), pyro_vd.posterior_mean():
        assert torch.equal(pyro.sample("w", q.to_event(2)), q.mean)


# Mutant: a handler instance that can be entered once only.
def test_one_handler_serves_many_times_and_as_a_decorator():
    handler, q = local_reparam(), gaussian(2, 2)
    for _ in range(2):
        with handler:
            assert isinstance(pyro.sample("w", q.to_event(2)), NoisyWeight)
    program = local_reparam()(lambda: pyro.sample("w", q.to_event(2)))
    assert isinstance(program(), NoisyWeight)


# Mutant: a shape or dtype of the weight that networks read is missing.
def test_the_weight_answers_questions_about_its_shape():
    w = noisy(gaussian(3, 2, 5))
    assert (tuple(w.shape), w.ndim, w.dim(), w.size(1), tuple(w.size()), w.numel()) == (
        (3, 2, 5),
        3,
        3,
        2,
        (3, 2, 5),
        30,
    )
    assert (w.dtype, w.device.type) == (torch.float64, "cpu")
    assert not hasattr(w, "no_such_method")


# Mutant: TraceMeanField_ELBO running on numbers that it takes for weights.
@pytest.mark.parametrize("scheme", ["sparse", "hierarchical"])
def test_density_based_objectives_are_refused(scheme):
    model, _, x, y = small_pair(guides.SCHEMES[scheme].prior)
    guide = guides.SCHEMES[scheme].Guide(model)
    with pytest.raises((NoLocalRule, ValueError), match=r"0\.weight"), local_reparam():
        pyro.infer.TraceMeanField_ELBO().differentiable_loss(model, guide, x, y)
