"""The interface is open: two posteriors defined here, with structure of their own, in every way a pair is trained.

Nothing below is known to the library: a type with its rsample, a registered KL, a registered local rule, a guide.
"""

import copy

import pyro
import pytest
import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn
from torch.distributions import constraints, kl_divergence, register_kl

import pyro_vd
from pyro_vd import AnalyticELBO, LogUniform, SiteParameters, WeightGuide, WeightNormal, local_reparam
from pyro_vd.handlers import NoisyWeight, NoLocalRule, register_local
from pyro_vd.inference.engine import Objective, trace_objective
from pyro_vd.priors import ImproperPrior, UndefinedLogProb

N = 24


class Structured(TorchDistribution):
    """A posterior over a whole weight: its batch shape is the weight's, though its noise is shared."""

    arg_constraints: dict = {}
    support = constraints.real
    has_rsample = True

    def __init__(self, theta, *noise_params):
        self.theta, self.noise_params = theta, noise_params
        super().__init__(theta.shape, validate_args=False)

    mean = property(lambda self: self.theta)

    def scale(self, *leading):
        """Factors N(1, alpha), one per input unit (and example)."""
        noise = torch.randn(*leading, self.theta.shape[1])
        return 1 + (0.5 * self.noise_params[0]).exp() * noise

    def log_prob(self, value):
        return UndefinedLogProb(type(self).__name__, value.shape)

    def expand(self, batch_shape, _instance=None):
        assert torch.Size(batch_shape) == self.theta.shape
        return self


class UnitNoise(Structured):
    """Type A: w[o, i] = theta[o, i] * xi[i]."""

    def rsample(self, sample_shape=torch.Size()):
        return self.theta * self.scale(*sample_shape, 1)


class GroupScale(Structured):
    """w[o, i] = z[i] * N(theta[o, i], sigma[o, i]^2)."""

    @property
    def weight(self):
        return WeightNormal(self.theta, log_sigma2=self.noise_params[1])

    def rsample(self, sample_shape=torch.Size()):
        return self.weight.rsample(sample_shape) * self.scale(*sample_shape, 1)


class UnitLogUniform(ImproperPrior):
    """Log-uniform on each unit's noise; it has no density over weights."""

    def log_prob(self, value):
        return UndefinedLogProb("UnitLogUniform", value.shape)


def unit_kl(log_alpha):
    return kl_divergence(WeightNormal(torch.ones_like(log_alpha), log_alpha=log_alpha), LogUniform())


@register_kl(UnitNoise, UnitLogUniform)
def _kl_unit_noise(q, p):
    return unit_kl(q.noise_params[0])


@register_kl(GroupScale, UnitLogUniform)
def _kl_group_scale(q, p):
    return unit_kl(q.noise_params[0]).sum() + kl_divergence(q.weight, LogUniform()).sum()


@register_local((UnitNoise,), F.linear)
def _local_unit_noise(op, input, weight, bias=None):
    return op(input * weight.q.scale(len(input)), weight.q.theta, bias)


@register_local((GroupScale,), F.linear)
def _local_group_scale(op, input, weight, bias=None):
    inner = NoisyWeight(weight.site, weight.q.weight, weight.threshold, weight.fallback)
    return op(input * weight.q.scale(len(input)), inner, bias)


class UnitGuide(WeightGuide):
    def __init__(self, model):
        super().__init__(model)
        self.log_alpha = SiteParameters({site: torch.full(w.shape[1:], -2.0) for site, w in model.initial.items()})

    def q(self, site):
        return UnitNoise(self.theta[site], self.log_alpha[site])


class GroupGuide(UnitGuide):
    def __init__(self, model):
        super().__init__(model)
        self.log_sigma2 = SiteParameters({site: torch.full_like(w, -6.0) for site, w in model.initial.items()})

    def q(self, site):
        return GroupScale(self.theta[site], self.log_alpha[site], self.log_sigma2[site])


every_posterior = pytest.mark.parametrize("guide_type", [UnitGuide, GroupGuide])


def pair(guide_type):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model = pyro_vd.lift(net, UnitLogUniform, pyro_vd.Categorical, N)
    return model, guide_type(model)


def data():
    x = torch.randn(N, 4)
    return x, x[:, :3].argmax(-1)


def assert_trains(model, guide, objective):
    training, batch = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=objective), data()
    before = [p.detach().clone() for p in guide.parameters()]
    losses = [training.step(*batch) for _ in range(50)]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    assert all(not torch.equal(p, then) for p, then in zip(guide.parameters(), before, strict=True))


# Mutants: a KL summed over weights where the posterior counts units, or expanded to the weight's shape.
def test_the_kl_counts_what_the_posterior_counts():
    model, guide = pair(UnitGuide)
    kl = AnalyticELBO().terms(model, guide, *data()).kl
    one = unit_kl(torch.tensor(-2.0))
    torch.testing.assert_close(kl["0.weight"], 4 * one)
    torch.testing.assert_close(kl["2.weight"], 6 * one)
    model, guide = pair(GroupGuide)
    kl = AnalyticELBO().terms(model, guide, *data()).kl
    weights = kl_divergence(guide.q("0.weight").weight, LogUniform()).sum()
    torch.testing.assert_close(kl["0.weight"], 4 * one + weights)


@every_posterior
@pytest.mark.parametrize("objective", [AnalyticELBO, TraceMeanField_ELBO])
def test_stock_svi(guide_type, objective):
    assert_trains(*pair(guide_type), objective())


# Mutant: a log density made up for a posterior that has none.
@every_posterior
def test_monte_carlo_objectives_are_refused_by_name(guide_type):
    model, guide = pair(guide_type)
    with pytest.raises(NotImplementedError, match=r"UnitNoise|GroupScale|UnitLogUniform"):
        Trace_ELBO().loss(model, guide, *data())


# Mutants: a handler that knows Gaussian types only and samples the weight of another.
@every_posterior
def test_eager_local_reparam(guide_type, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a weight was sampled")

    monkeypatch.setattr(guide_type(pair(guide_type)[0]).q("0.weight").__class__, "rsample", refuse)
    with local_reparam():
        assert_trains(*pair(guide_type), AnalyticELBO())


@every_posterior
def test_fit(guide_type):
    model, guide = pair(guide_type)
    x, y = data()
    posterior = pyro_vd.fit(model, guide, (x, y), epochs=2, batch_size=8, engine="eager", progress=False)
    assert posterior.predict(x, num_samples=3).shape == (3, N, 3)
    assert posterior.mean()(x).shape == (N, 3)
    assert all(mask.all() for mask in posterior.masks(3.0).values())


# Mutants: a registered operation taken for another, the site's name lost on the way to a delegated rule.
@every_posterior
def test_operations_without_a_rule_are_refused_by_name(guide_type):
    _, guide = pair(guide_type)
    weight = NoisyWeight("0.weight", guide.q("0.weight"))
    for program in (lambda: torch.relu(weight), lambda: torch.ones(2, 4) @ weight.T, lambda: weight * 2):
        with pytest.raises(NoLocalRule, match=r"'0\.weight' \((UnitNoise|GroupScale)\)"):
            program()


# Mutants: noise shared by the batch, alpha for its root, independent outputs where the unit's noise is common.
@every_posterior
def test_local_draws_have_the_moments_of_weight_draws(guide_type):
    """One noise per unit correlates an example's outputs: Cov(y_o, y_p) = sum_i x_i^2 alpha_i theta_oi theta_pi."""
    torch.set_default_dtype(torch.float64)
    m, x = 40_000, torch.randn(4)
    theta, log_alpha, log_sigma2 = torch.randn(2, 4), torch.empty(4).uniform_(-2, 0), torch.empty(2, 4).uniform_(-3, 0)
    q = guide_type(pair(guide_type)[0]).q("0.weight").__class__(theta, log_alpha, log_sigma2)
    alpha, sigma2 = log_alpha.exp(), log_sigma2.exp() * (guide_type is GroupGuide)
    covariance = torch.einsum("i,oi,pi->op", x.square() * alpha, theta, theta)
    covariance += torch.diag((x.square() * (1 + alpha) * sigma2).sum(-1))
    local = F.linear(x.expand(m, 4), NoisyWeight("w", q))
    for draws in (local, q.rsample((m,)) @ x):
        centered = draws - theta @ x
        assert (centered.mean(0) / (centered.std(0) / m**0.5)).abs().max() < 5.5
        products = torch.einsum("mo,mp->mop", centered, centered)
        assert ((products.mean(0) - covariance) / (products.std(0) / m**0.5)).abs().max() < 5.5


# Mutants: a graph with the trace's noise baked in, gradients that stop at a custom rule, a rule run per call.
@every_posterior
@pytest.mark.parametrize("estimator", ["local", "weights"])
def test_export_has_the_gradients_of_eager(guide_type, estimator):
    x, y = data()
    objective = Objective(*pair(guide_type), estimator=estimator)
    traced = trace_objective(objective, x, y)
    beta, results = torch.tensor(0.3), []
    for module in (objective, traced):
        pyro.set_rng_seed(7)
        loss, likelihood, kl = module(x, y, beta)
        results.append((loss, likelihood, kl, *torch.autograd.grad(loss, list(objective.parameters()))))
    for eager, exported in zip(*results, strict=True):
        torch.testing.assert_close(exported, eager, rtol=1e-5, atol=1e-6)
    losses = [traced(x, y, beta)[0].item() for _ in range(3)]
    assert len(set(losses)) == 3


@every_posterior
def test_pairs_can_be_copied_and_loaded(guide_type):
    model, guide = pair(guide_type)
    twin_model, twin = copy.deepcopy((model, guide))
    twin.load_state_dict(guide.state_dict())
    pyro.set_rng_seed(1)
    loss = AnalyticELBO().loss(model, guide, *data())
    pyro.set_rng_seed(1)
    assert AnalyticELBO().loss(twin_model, twin, *data()) == loss
