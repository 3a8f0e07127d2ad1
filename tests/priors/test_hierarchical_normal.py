"""HierarchicalNormal: its density and KL against integrals over the variance, its limit, its samples, and training."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import InverseGamma, Normal, StudentT, kl_divergence

import pyro_vd
from pyro_vd import EmpiricalBayes, HierarchicalNormal, guides
from pyro_vd.errors import UserError
from pyro_vd.posteriors import WeightNormal

SHAPE = (3, 2)
GROUPS = {"weight": [[(i, j)] for i in range(3) for j in range(2)],
          "unit": [[(i, j) for i in range(3)] for j in range(2)],
          "layer": [[(i, j) for i in range(3) for j in range(2)]]}  # fmt: skip
LOG_V = torch.linspace(-25, 25, 40_001, dtype=torch.float64)  # the grid of the integrals


def posterior(seed=0):
    generator = torch.Generator().manual_seed(seed)
    theta, log_sigma2 = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))
    return WeightNormal(theta, log_sigma2=log_sigma2 - 1)


def log_integral(log_density):
    """log of the integral over v of exp(log_density(v)) times the density of v."""
    return torch.logsumexp(log_density + LOG_V, 0) + (LOG_V[1] - LOG_V[0]).log()  # dv = v d(log v)


def hyperprior(a, b):
    return InverseGamma(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)).log_prob(
        LOG_V.exp()
    )


@pytest.mark.parametrize("share", GROUPS)
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.01), (3.0, 2.0), (0.3, 0.5)])
def test_the_kl_is_the_integral_over_the_variance(share, a, b):
    """min over q(v) of KL(q(w) q(v) || p(w | v) p(v)) = -H(q) - log E_v exp(E_q log p(w | v))."""
    q = posterior()
    found = kl_divergence(q, HierarchicalNormal(a, b, share).expand(SHAPE))
    moment = q.theta.square() + q.variance
    for group in GROUPS[share]:
        s = sum(moment[index] for index in group)
        expected_log = -0.5 * len(group) * (math.log(2 * math.pi) + LOG_V) - 0.5 * s / LOG_V.exp()
        entropy = sum(0.5 * (math.log(2 * math.pi * math.e) + q.log_sigma2[index]) for index in group)
        expected = -entropy - log_integral(expected_log + hyperprior(a, b))
        torch.testing.assert_close(sum(found[index] for index in group), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("share", GROUPS)
def test_the_density_is_the_integral_over_the_variance(share):
    a, b = 1.5, 0.2
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = HierarchicalNormal(a, b, share).expand(SHAPE).log_prob(w)
    for group in GROUPS[share]:
        square = sum(w[index].square() for index in group)
        given_v = -0.5 * len(group) * (math.log(2 * math.pi) + LOG_V) - 0.5 * square / LOG_V.exp()
        expected = log_integral(given_v + hyperprior(a, b))
        torch.testing.assert_close(sum(found[index] for index in group), expected, rtol=1e-6, atol=1e-6)


def test_the_density_of_one_weight_is_students():
    w = torch.linspace(-2, 2, 9)
    found = HierarchicalNormal(1.5, 0.2, "weight").expand((9,)).log_prob(w)
    torch.testing.assert_close(found, StudentT(3.0, 0.0, math.sqrt(0.2 / 1.5)).log_prob(w))


def test_the_density_of_several_draws():
    prior = HierarchicalNormal(share="unit").expand(SHAPE)
    draws = torch.randn(4, 5, *SHAPE)
    found = prior.log_prob(draws)
    assert found.shape == draws.shape
    torch.testing.assert_close(found[2, 3], prior.log_prob(draws[2, 3]))


def test_the_kl_is_an_upper_bound_on_that_to_the_density():
    """By quadrature, for one weight; the bound is not equal."""
    theta, sigma = 0.4, 0.3
    q = WeightNormal(torch.tensor([theta]), log_sigma2=torch.tensor([2 * math.log(sigma)]))
    grid = torch.linspace(-4, 5, 20_001)
    dense, prior = Normal(theta, sigma).log_prob(grid), StudentT(2.0, 0.0, 0.1).log_prob(grid)
    exact = torch.trapezoid(dense.exp() * (dense - prior), grid)
    bound = kl_divergence(q, HierarchicalNormal(1.0, 0.01, "weight").expand((1,)))
    assert exact < bound < exact + 1


@pytest.mark.parametrize("share", GROUPS)
def test_its_limit_is_empirical_bayes(share):
    """The same gradients, and the same posterior mean of the variance up to a factor of n / (n - 2)."""
    limit = HierarchicalNormal(1e-9, 1e-9, share).expand(SHAPE)
    gradients = []
    for prior in (limit, EmpiricalBayes(share).expand(SHAPE)):
        theta, log_sigma2 = posterior().theta.clone().requires_grad_(), posterior().log_sigma2.clone().requires_grad_()
        kl_divergence(WeightNormal(theta, log_sigma2=log_sigma2), prior).sum().backward()
        gradients.append((theta.grad, log_sigma2.grad))
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_the_posterior_of_the_variance_has_the_shape_of_the_groups():
    q = posterior()
    for share, shape in (("weight", (3, 2)), ("unit", (1, 2)), ("layer", (1, 1))):
        v = HierarchicalNormal(2.0, 0.5, share).variance_posterior(q)
        assert v.rate.shape == shape
        count = 6 / v.rate.numel()
        torch.testing.assert_close(v.concentration, torch.full(shape, 2.0 + count / 2, dtype=torch.float64))
        torch.testing.assert_close(v.rate.sum(), 0.5 * v.rate.numel() + 0.5 * (q.theta.square() + q.variance).sum())


def test_units_of_a_transposed_layer_are_counted_by_dimension_0():
    v = HierarchicalNormal(share="unit", dim=0).variance_posterior(posterior())
    assert v.rate.shape == (3, 1)
    with pytest.raises(UserError, match=r"HierarchicalNormal\(share='unit', dim=0\)"):
        pyro_vd.lift(nn.ConvTranspose2d(3, 5, 2), HierarchicalNormal(share="unit"), pyro_vd.Categorical, 10)


@pytest.mark.parametrize("share", GROUPS)
def test_samples_share_the_variance(share):
    torch.manual_seed(0)
    prior = HierarchicalNormal(8.0, 7.0, share).expand(SHAPE)  # E v = 1, and tails that have four moments
    draws = prior.sample((40_000,))
    assert draws.shape == (40_000, *SHAPE)
    assert draws.var(0).sub(1).abs().max() < 0.05
    square = (draws.square() - 1).flatten(1)
    covariance = square.T @ square / len(draws)  # of two weights with one v: Var v = 1 / 6
    same = [[any({(i // 2, i % 2), (j // 2, j % 2)} <= set(group) for group in GROUPS[share]) for j in range(6)]
            for i in range(6)]  # fmt: skip
    for i in range(6):
        for j in range(6):
            if i != j:
                assert abs(covariance[i, j].item() - (1 / 6 if same[i][j] else 0)) < 0.08, (i, j)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_a_wide_layer_learns_its_scale(engine):
    """The posterior of the variance finds the scale that the targets need, from any start of the hyperprior."""
    torch.manual_seed(0)
    x = torch.randn(400, 8)
    y = x @ (2.0 * torch.randn(8, 1)) + 0.1 * torch.randn(400, 1)
    prior = HierarchicalNormal(1.0, 0.01)
    model = pyro_vd.lift(nn.Linear(8, 1), prior, pyro_vd.Gaussian(0.1), num_data=400)
    guide = guides.sparse.Guide(model)
    pyro_vd.fit(model, guide, (x, y), epochs=60, lr=0.05, batch_size=400, seed=0, engine=engine, progress=False)
    q = guide.q("weight")
    expected = (0.01 + 0.5 * (q.theta.square() + q.variance).sum()) / (1.0 + 4.0 - 1)
    torch.testing.assert_close(
        prior.variance_posterior(q).mean.squeeze(), expected.squeeze().detach(), check_stride=False
    )
    assert expected > 0.5


def test_other_posteriors_are_refused_by_name():
    model = pyro_vd.lift(nn.Linear(3, 2), HierarchicalNormal, pyro_vd.Categorical, num_data=10)
    with pytest.raises((NotImplementedError, UserError), match="HierarchicalNormal"):
        pyro_vd.fit(model, guides.bernoulli.Guide(model), (torch.randn(10, 3), torch.randint(2, (10,))), epochs=1,
                    progress=False)  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), [
    ({"share": "column"}, r"HierarchicalNormal\(share='column'\): share must be one of 'weight', 'unit', 'layer'"),
    ({"concentration": 0.0}, "concentration=0.0 must be a finite number above 0; EmpiricalBayes"),
    ({"rate": -1.0}, "rate=-1.0 must be"),
    ({"rate": math.inf}, "rate=inf must be"),
    ({"rate": math.nan}, "rate=nan must be"),
    ({"rate": "small"}, "rate='small' must be"),
    ({"rate": True}, "rate=True must be"),
    ({"dim": 0.5}, "dim=0.5"),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        HierarchicalNormal(**arguments)


def test_scalars_of_numpy_and_torch_are_numbers():
    prior = HierarchicalNormal(np.float32(2.0), torch.tensor(0.5))
    assert (type(prior.concentration), prior.concentration, prior.rate) == (float, 2.0, 0.5)


def test_units_of_a_vector_are_refused():
    q = WeightNormal(torch.zeros(3), log_sigma2=torch.zeros(3))
    with pytest.raises(NotImplementedError, match="two dimensions or more"):
        kl_divergence(q, HierarchicalNormal(share="unit").expand((3,)))
