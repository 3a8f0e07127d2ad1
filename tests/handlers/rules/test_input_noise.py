"""local_reparam of input noise: exactly the network with one weight draw for each example."""

import pyro
import pytest
import torch
import torch.nn.functional as F

from pyro_vd.handlers import NoisyWeight, NoLocalRule, local_reparam
from pyro_vd.posteriors import GroupScale, InputNoise, ScaledBernoulli, WeightNormal
from tests.reference.z_test import z_of_mean

pytestmark = pytest.mark.usefixtures("double")

UNITS = 4
OPS = {
    "linear": (F.linear, (3, 4), (5, 4), 1, 5, {}),
    "linear over a sequence": (F.linear, (3, 2, 4), (5, 4), 1, 5, {}),
    "conv1d": (F.conv1d, (3, 4, 7), (5, 4, 3), 1, 5, {"stride": 2}),
    "conv2d": (F.conv2d, (3, 4, 6, 6), (5, 4, 3, 3), 1, 5, {"padding": 1, "dilation": 2}),
    "conv3d": (F.conv3d, (3, 4, 3, 3, 3), (5, 4, 2, 2, 2), 1, 5, {}),
    "conv_transpose2d": (F.conv_transpose2d, (3, 4, 5, 5), (4, 5, 3, 3), 0, 5, {"stride": 2}),
    "grouped conv_transpose1d": (F.conv_transpose1d, (3, 4, 5), (4, 3, 3), 0, 6, {"groups": 2}),
}
every_op = pytest.mark.parametrize("name", OPS)


def noise(units=UNITS):
    return WeightNormal(torch.ones(units), log_alpha=torch.linspace(-2.0, 1.0, units))


def noisy(q, **options):
    with local_reparam(**options):
        return pyro.sample("w", q.to_event(len(q.batch_shape)))


# Mutants: noise per position, noise shared by the examples, noise on another dimension, the bias scaled too.
@every_op
@pytest.mark.parametrize("bias", [True, False])
def test_each_example_meets_a_weight_draw_of_its_own(name, bias, monkeypatch):
    op, x_shape, w_shape, dim, out, options = OPS[name]
    x, theta, b = torch.randn(x_shape), torch.randn(w_shape), torch.randn(out) if bias else None
    factors = torch.randn(x_shape[0], UNITS)
    monkeypatch.setattr(WeightNormal, "rsample", lambda self, shape: factors.reshape(*shape, UNITS))
    got = op(x, noisy(InputNoise(theta, noise(), dim)), b, **options)
    for i, factor in enumerate(factors):
        weight = torch.stack([theta.select(dim, j) * factor[j] for j in range(UNITS)], dim)
        torch.testing.assert_close(got[i : i + 1], op(x[i : i + 1], weight, b, **options), rtol=1e-12, atol=1e-12)


# A sequence without a batch dimension is a batch.
@pytest.mark.parametrize("name", [name for name in OPS if "sequence" not in name])
def test_a_single_example_without_a_batch_dimension(name, monkeypatch):
    op, x_shape, w_shape, dim, _, options = OPS[name]
    x, theta, factors = torch.randn(x_shape[1:]), torch.randn(w_shape), torch.randn(UNITS)
    monkeypatch.setattr(WeightNormal, "rsample", lambda self, shape: factors.expand(*shape, UNITS))
    q = InputNoise(theta, noise(), dim)
    torch.testing.assert_close(op(x, noisy(q), **options), op(x, theta * q.on_weights(factors), **options))


# Mutants: the factor of dropout without its rescaling, one mask for the batch.
def test_bernoulli_noise_is_dropout_of_the_inputs():
    """With the identity as weight the output is the dropped input: torch.nn.functional.dropout's law."""
    q = InputNoise(torch.eye(UNITS), ScaledBernoulli(torch.full((UNITS,), 0.3)))
    out = F.linear(torch.ones(20_000, UNITS), noisy(q))
    reference = F.dropout(torch.ones(20_000, UNITS), 0.3)
    torch.testing.assert_close(out.unique(), reference.unique())
    assert z_of_mean(out.eq(0).double(), 0.3).abs().max() < 5
    pairs = out.eq(0).double()[:, :1] * out.eq(0).double()[:, 1:]
    assert z_of_mean(pairs, 0.09).abs().max() < 5


# Mutants: the variance masked with the mean, a mask at the other side of the threshold, a mask of fixed noise.
def test_masking_takes_the_mean_and_leaves_the_variance():
    q = InputNoise(torch.eye(UNITS), noise())  # log_alpha = -2, -1, 0, 1
    out = F.linear(torch.ones(40_000, UNITS), noisy(q, threshold=0.0))
    kept = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert z_of_mean(out, kept).abs().max() < 5
    assert z_of_mean((out - kept) ** 2, noise().variance).abs().max() < 5
    fixed = InputNoise(torch.eye(2), ScaledBernoulli(torch.tensor([0.1, 0.9])))
    assert z_of_mean(F.linear(torch.ones(40_000, 2), noisy(fixed, threshold=-9.0)), 1.0).abs().max() < 5


def test_gradients_are_those_of_the_scaled_input(monkeypatch):
    theta, log_alpha = torch.randn(5, UNITS, requires_grad=True), torch.zeros(UNITS, requires_grad=True)
    x, epsilon = torch.randn(3, UNITS), torch.randn(3, UNITS)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: epsilon)
    out = F.linear(x, noisy(InputNoise(theta, WeightNormal(torch.ones(UNITS), log_alpha=log_alpha))))
    by_hand = F.linear(x * (1 + (0.5 * log_alpha).exp() * epsilon), theta)
    for got, expected in zip(
        torch.autograd.grad(out.square().sum(), (theta, log_alpha)),
        torch.autograd.grad(by_hand.square().sum(), (theta, log_alpha)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_what_has_no_rule_is_refused_by_name():
    with pytest.raises(NoLocalRule, match=r"shape \(1, 4, 5\), but weight 'w' has noise for 2 inputs: .*grouped"):
        F.conv1d(torch.randn(1, 4, 5), noisy(InputNoise(torch.randn(6, 2, 3), noise(2))), groups=2)
    with pytest.raises(NoLocalRule, match=r"conv2d got an input of shape \(3, 4\)"):
        F.conv2d(torch.randn(3, 4), noisy(InputNoise(torch.randn(5, 4, 3, 3), noise())))
    w = noisy(InputNoise(torch.randn(5, UNITS), noise()))
    with pytest.raises(NoLocalRule, match=r"'w' \(InputNoise\) reached torch.Tensor.t"):
        torch.ones(2, UNITS) @ w.T
    with pytest.raises(NoLocalRule, match="weight 'w' is the input of linear"):
        F.linear(w, w)


# --- a random scale per input unit times Gaussian weights


def group_scale(inputs=3, outputs=4, scale=None):
    generator = torch.Generator().manual_seed(3)
    theta = torch.randn(outputs, inputs, generator=generator)
    weight = WeightNormal(theta, log_sigma2=torch.randn(outputs, inputs, generator=generator) - 1)
    scale = scale or WeightNormal(torch.linspace(0.5, 1.5, inputs), log_sigma2=torch.linspace(-3, 0, inputs))
    return GroupScale(weight, scale)


# Mutants: one scale for the batch, scales on the outputs, sigma not scaled, E[z]^2 for E[z^2].
def test_group_scales_have_the_moments_of_weight_sampling(double):
    """Outputs of one example: mean, variance, and the covariance between outputs that a shared scale makes."""
    q = group_scale()
    x = torch.tensor([0.7, -1.3, 2.0])
    many = 200_000
    y = F.linear(x.expand(many, 3), NoisyWeight("w", q))
    mean = (q.mean * x).sum(1)
    variance = (q.variance * x.square()).sum(1)
    covariance = (q.theta[0] * q.theta[1] * q.noise.variance * x.square()).sum()
    assert z_of_mean(y, mean).abs().max() < 5
    centered = y - mean
    assert z_of_mean(centered.square(), variance).abs().max() < 5
    assert z_of_mean(centered[:, 0] * centered[:, 1], covariance).abs() < 5
    drawn = (q.rsample((many,)) * x).sum(-1) - mean
    assert z_of_mean(drawn.square(), variance).abs().max() < 5
    assert z_of_mean(drawn[:, 0] * drawn[:, 1], covariance).abs() < 5


def test_group_scales_of_a_convolution_are_drawn_once_for_an_example(double):
    """Without weight noise two positions of one example differ by their inputs alone; two examples do not share z."""
    weight = WeightNormal(torch.randn(2, 3, 1, 1), log_sigma2=torch.full((2, 3, 1, 1), -60.0))
    q = GroupScale(weight, WeightNormal(torch.ones(3), log_sigma2=torch.zeros(3)))
    x = torch.ones(5, 3, 2, 2)
    with_floor = F.conv2d(x, NoisyWeight("w", q))
    torch.testing.assert_close(with_floor, with_floor[..., :1, :1].expand_as(with_floor), atol=1e-3, rtol=0)
    assert with_floor[:, 0, 0, 0].unique().numel() == 5


def test_group_scales_hand_the_operation_to_the_gaussian_rules_by_name():
    with pytest.raises(NoLocalRule, match="'w'"):
        F.embedding(torch.tensor([0]), NoisyWeight("w", group_scale()))
