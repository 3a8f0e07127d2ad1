"""Properties of training that hold for any network: stationarity, precision under autocast, the limits of exp.

T16, T19 and T20 of the numerical tests that the design asks for.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pyro_vd
from pyro_vd import EmpiricalBayes, Gaussian, LogUniform, WeightNormal, guides, local_reparam
from pyro_vd.elbo import AnalyticELBO
from pyro_vd.handlers import NoisyWeight
from pyro_vd.handlers.rules.gaussian import VARIANCE_FLOOR
from pyro_vd.kl import R_MIN

BOX = (-20.0, 4.0)


# T16. Mutants: a KL with a scale of its own, a likelihood scaled by B/N, sigma for sigma^2.
@pytest.mark.parametrize("prior", [LogUniform("exact"), LogUniform("molchanov"), EmpiricalBayes()])
def test_at_the_optimum_the_data_term_alone_is_stationary_along_the_scale(prior, double):
    """A KL free of scale is constant along (theta, log_sigma2) -> (t theta, log_sigma2 + 2 log t). Where the whole
    objective is stationary its data term must then be so in that direction: theta dL/dtheta + 2 dL/dlog_sigma2 = 0."""
    torch.manual_seed(1)
    x = torch.randn(60, 3)
    y = x @ torch.tensor([[1.0], [-0.7], [0.4]]) + 0.3 * torch.randn(60, 1)
    model = pyro_vd.lift(nn.Linear(3, 1, bias=False), prior, Gaussian(0.3), num_data=60)
    guide = guides.sparse.Guide(model, init=-6.0)
    theta, log_sigma2 = guide.theta["weight"], guide.log_sigma2["weight"]

    def data_term():
        """Expected negative log likelihood in closed form: a quadratic of a Gaussian."""
        residual = (y - x @ theta.T).square().sum()
        spread = (x.square() @ log_sigma2.exp().T).sum()
        return (residual + spread) / (2 * 0.3**2)

    optimizer = torch.optim.LBFGS(guide.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        kl = AnalyticELBO().terms(model, guide, x, y).kl["weight"]
        loss = data_term() + kl
        loss.backward()
        return loss

    optimizer.step(closure)
    dtheta, dlog_sigma2 = torch.autograd.grad(data_term(), [theta, log_sigma2])
    along, size = theta * dtheta + 2 * dlog_sigma2, (theta * dtheta).abs() + 2 * dlog_sigma2.abs()
    assert size.min() > 0.1  # the data do pull, and the KL pulls back
    assert (along.abs() / size).max() < 1e-4


# T19. The box that log_sigma2 is projected to is inside what float32 can exponentiate, with the KL's own constants.
def test_the_projection_box_is_inside_float32():
    largest, tiny = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny
    assert math.log(largest) == pytest.approx(88.72, abs=0.01)
    assert math.log(torch.finfo(torch.float16).max) == pytest.approx(11.09, abs=0.01)
    assert torch.tensor(VARIANCE_FLOOR, dtype=torch.float16) == 0  # it does not exist in half precision
    assert tiny < VARIANCE_FLOOR
    assert math.exp(BOX[1]) < largest
    assert math.exp(BOX[0]) > tiny
    assert tiny < R_MIN < torch.finfo(torch.float64).eps * math.exp(-20.0)  # a rounding of the least 1 / alpha


@pytest.mark.parametrize("log_sigma2", BOX)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4])
def test_a_layer_is_finite_on_the_border_of_the_box(log_sigma2, scale):
    theta = torch.full((4, 5), scale).requires_grad_()
    rate = torch.full((4, 5), log_sigma2).requires_grad_()
    q = WeightNormal(theta, log_sigma2=rate)
    for x in (torch.zeros(3, 5), torch.full((3, 5), 1e4)):
        y = F.linear(x, NoisyWeight("w", q))
        gradients = torch.autograd.grad(y.square().mean(), [theta, rate])
        assert y.isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients)


# T20. Mutants: the variance under autocast, the KL in bf16.
@pytest.mark.parametrize("layer", ["linear", "conv", "matmul"])
def test_autocast_leaves_variance_and_kl_in_float32(layer):
    """The standard deviation of outputs with mean 0, against that of float64, where bf16 is off by half a percent."""
    shape = {"linear": (64, 512), "conv": (8, 16, 5, 5), "matmul": (512, 64)}[layer]
    x = torch.rand(*{"linear": (1, 512), "conv": (1, 16, 5, 5), "matmul": (1, 512)}[layer])
    q = WeightNormal(torch.zeros(shape), log_sigma2=4 * torch.randn(shape) - 6)
    operation = {"linear": F.linear, "conv": F.conv2d, "matmul": torch.matmul}[layer]
    exact = operation(x.double().square(), q.variance.double()).sqrt()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        y = operation(x, NoisyWeight("w", q))
        torch.manual_seed(0)
        noise = torch.randn(y.shape, dtype=torch.bfloat16)  # that of the mean, which autocast may round
        kl = torch.distributions.kl_divergence(q, EmpiricalBayes())
    assert y.dtype == kl.dtype == torch.float32
    kept = noise.abs() > 0.1
    torch.testing.assert_close((y / noise.float())[kept].double(), exact[kept], rtol=1e-4, atol=0)


def test_autocast_trains_close_to_float32():
    """One loss and its gradients in both precisions, with the noise of each: they agree as far as bf16 does."""
    x = torch.randn(200, 10)
    y = x[:, :3].argmax(1)
    model = pyro_vd.lift(nn.Linear(10, 3), LogUniform, pyro_vd.Categorical, num_data=200)
    guide = guides.sparse.Guide(model, init=-12.0)
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled), local_reparam():
            terms = AnalyticELBO().terms(model, guide, x, y)
        losses.append(terms)
    assert losses[0].weighted_kl == losses[1].weighted_kl
    torch.testing.assert_close(losses[0].log_likelihood, losses[1].log_likelihood, rtol=1e-2, atol=0)
