import contextlib
import copy
import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from scipy.optimize import brentq
from scipy.special import dawsn
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_vd import Categorical, Gaussian, guides
from pyro_vd.elbo import AnalyticELBO
from pyro_vd.errors import UserError
from pyro_vd.handlers import kl_weight, posterior_mean
from pyro_vd.model.lift import lift
from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import EmpiricalBayes, Flat, LogUniform
from tests.reference.z_test import z_of_mean

pytestmark = pytest.mark.usefixtures("double")

MOLCHANOV, EXACT, HIERARCHICAL = LogUniform("molchanov"), LogUniform("exact"), EmpiricalBayes()
SCALE_FREE = {"molchanov": MOLCHANOV, "exact": EXACT, "hierarchical": HIERARCHICAL}
PRIORS = {**SCALE_FREE, "normal": dist.Normal(0.0, 1.0)}
RATES = ("log_sigma2", "log_alpha")


class cubature_point(Messenger):
    """Puts the only latent site at mean +- sqrt(D) sigma_i e_i: a quadratic's mean over all 2D points is exact."""

    def __init__(self, i: int, sign: int):
        super().__init__()
        self.i, self.sign = i, sign

    def _pyro_sample(self, msg):
        if msg["is_observed"] or msg["done"]:
            return
        mean, sigma = msg["fn"].mean, msg["fn"].stddev
        unit = torch.zeros(mean.numel()).scatter(0, torch.tensor(self.i), 1.0).view_as(mean)
        msg["value"] = mean + self.sign * mean.numel() ** 0.5 * sigma * unit
        msg["done"] = True


def exact_loss(model, guide, *data) -> Tensor:
    """The negative ELBO without Monte Carlo error, for one random weight and a log likelihood quadratic in it."""
    size = sum(value.numel() for value in model.initial.values())
    losses = []
    for i, sign in itertools.product(range(size), (-1, 1)):
        with cubature_point(i, sign):
            losses.append(AnalyticELBO().differentiable_loss(model, guide, *data))
    return torch.stack(losses).mean()


def minimize(loss, guide) -> None:
    """L-BFGS, then Newton's method for the last digits."""
    optimizer = torch.optim.LBFGS(
        guide.parameters(), max_iter=60, tolerance_grad=1e-4, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    leaves = list(guide.parameters())
    for _ in range(3):
        slope = flat(torch.autograd.grad(loss(), leaves, create_graph=True))
        rows = [flat(torch.autograd.grad(s, leaves, retain_graph=True, materialize_grads=True)) for s in slope]
        newton = torch.linalg.solve(torch.stack(rows), slope.detach())
        with torch.no_grad():
            for leaf, move in zip(leaves, newton.split([leaf.numel() for leaf in leaves]), strict=True):
                leaf -= move.view_as(leaf)
    assert newton.abs().max() < 1e-9, "not converged"


def flat(tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def regression(x: Tensor, prior, noise: float, rate: str = "log_sigma2", init: float = -6.0, start=None):
    """A lifted linear regression without bias and its Gaussian guide."""
    net = nn.Linear(x.shape[1], 1, bias=False)
    if start is not None:
        net.weight.data.copy_(start)
    model = lift(net, prior=prior, likelihood=Gaussian(noise), num_data=len(x))
    return model, guides.sparse.Guide(model, parametrization=rate, init=init)


def fitted(model, guide, x: Tensor, y: Tensor) -> WeightNormal:
    minimize(lambda: exact_loss(model, guide, x, y), guide)
    return guide.q("weight")


def orthogonal_data(curvature: float, noise: float, ols: list[float]) -> tuple[Tensor, Tensor]:
    """X and y with X'X / noise^2 = curvature * I and least-squares solution ols; y has a residual too."""
    basis, _ = torch.linalg.qr(torch.randn(8, len(ols) + 1))
    x = basis[:, :-1] * noise * curvature**0.5
    return x, x @ torch.tensor(ols).reshape(-1, 1) + basis[:, -1:]


def network_pair(prior, scheme=guides.sparse, **options):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    model = lift(net, prior=prior, likelihood=Categorical, num_data=60)
    return model, scheme.Guide(model, **options)


def batch(size: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 3), torch.randint(3, (size,))


# Mutants: any factor in the likelihood (sigma for sigma^2, n/B, the 2 pi) or in the KL: the ELBO written out by hand.
@pytest.mark.parametrize("rate", RATES)
def test_equals_the_elbo_by_hand(rate):
    x, y = torch.randn(7, 3), torch.randn(7, 1)
    model, guide = regression(x, dist.Normal(0.0, 1.0), 0.4, rate, init=-1.0)
    q = guide.q("weight")
    squares = (y - x @ q.mean.mT).square() + x.square() @ q.variance.mT
    log_likelihood = -(squares / 0.32 + 0.5 * math.log(2 * math.pi * 0.16)).sum()
    kl = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum()
    torch.testing.assert_close(exact_loss(model, guide, x, y), kl - log_likelihood, rtol=1e-12, atol=0)
    part = exact_loss(model, guide, x[:2], y[:2])
    squares = squares[:2] * 7 / 2
    log_likelihood = -(squares / 0.32 + 3.5 * 0.5 * math.log(2 * math.pi * 0.16)).sum()
    torch.testing.assert_close(part, kl - log_likelihood, rtol=1e-12, atol=0)


# T11. Mutants: no n/B, B/n, the mean NLL under a full KL, the KL scaled by n/B (poutine.scale around all), n = B.
@pytest.mark.parametrize("beta", [None, 0.3])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(
    ("scheme", "prior"),
    [
        (guides.sparse, MOLCHANOV),
        (guides.hierarchical, HIERARCHICAL),
        (guides.none, Flat()),
        (guides.none, dist.Normal(0.0, 1.0)),
    ],
)
def test_minibatches_are_unbiased(scheme, prior, size, beta):
    x, y = batch(6)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    model = lift(net, prior=prior, likelihood=Categorical, num_data=6)
    guide = scheme.Guide(model)
    parameters = [*guide.parameters(), *model.parameters()]

    def loss_and_slopes(index):
        weight = contextlib.nullcontext() if beta is None else kl_weight(beta)
        with posterior_mean(), weight:
            loss = AnalyticELBO().differentiable_loss(model, guide, x[index], y[index])
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return flat([loss.detach(), *slopes])

    whole = loss_and_slopes(list(range(6)))
    batches = torch.stack([loss_and_slopes(list(c)) for c in itertools.combinations(range(6), size)])
    assert batches.std(0)[0] > 0.1
    torch.testing.assert_close(batches.mean(0), whole, rtol=1e-12, atol=1e-12)


# T6. Mutants: a loss that depends on the order of examples or of hidden units, or on how the batch is cut.
@pytest.mark.parametrize("name", PRIORS)
def test_loss_is_invariant_to_order(name):
    x, y = batch(60)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    turned, units = copy.deepcopy(net), torch.randperm(4)
    turned[0].weight.data, turned[0].bias.data = net[0].weight.data[units], net[0].bias.data[units]
    turned[2].weight.data = net[2].weight.data[:, units]

    def terms(net, x, y):
        model = lift(net, prior=PRIORS[name], likelihood=Categorical, num_data=60)
        with posterior_mean():
            return AnalyticELBO().terms(model, guides.sparse.Guide(model), x, y)

    whole, examples = terms(net, x, y), torch.randperm(60)
    halves = [terms(net, half_x, half_y) for half_x, half_y in zip(x.split(30), y.split(30), strict=True)]
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(terms(net, x[examples], y[examples]).loss, whole.loss, **close)
    torch.testing.assert_close(terms(turned, x, y).loss, whole.loss, **close)
    torch.testing.assert_close(sum(half.log_likelihood for half in halves) / 2, whole.log_likelihood, **close)
    assert all(half.weighted_kl == whole.weighted_kl for half in halves)


# T12. Mutants: the KL counted twice or p's scale used with q's, another number of draws, a lost n/B or beta.
@pytest.mark.parametrize("beta", [None, 0.0, 0.3])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", PRIORS)
def test_equals_trace_mean_field(name, rate, beta):
    model, guide = network_pair(PRIORS[name], parametrization=rate)
    assert_same_as_mean_field(model, guide, beta)


@pytest.mark.parametrize("prior", [Flat(), dist.Normal(0.0, 0.5)])
def test_equals_trace_mean_field_for_points(prior):
    assert_same_as_mean_field(*network_pair(prior, guides.none), beta=0.3)


def assert_same_as_mean_field(model, guide, beta) -> None:
    x, y = batch()
    parameters = [*guide.parameters(), *model.parameters()]
    results = []
    for objective in (AnalyticELBO(), TraceMeanField_ELBO()):
        pyro.set_rng_seed(7)
        with contextlib.nullcontext() if beta is None else kl_weight(beta):
            loss = objective.differentiable_loss(model, guide, x, y)
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        results.append(flat([loss.detach(), *slopes]))
    torch.testing.assert_close(*results, rtol=1e-13, atol=1e-13)


# T12. Mutants: a KL or a density off by a constant, the wrong sign of either, a lost weight site.
@pytest.mark.parametrize("name", ["exact", "normal"])
def test_is_the_mean_of_trace_elbo(name):
    x, y = torch.randn(5, 2), torch.randn(5, 1)
    model, guide = regression(x, PRIORS[name], 0.5, init=-1.0, start=torch.tensor([[0.8, -0.5]]))
    mean = exact_loss(model, guide, x, y).item()
    with torch.no_grad():
        analytic, sampled = (
            torch.tensor([objective.loss(model, guide, x, y) for _ in range(200)])
            for objective in (AnalyticELBO(), Trace_ELBO())
        )
    assert abs(z_of_mean(analytic, mean)) < 5
    assert abs(z_of_mean(sampled, mean)) < 5


# T12. Mutants: a detached sample, a gradient of the KL off by a factor: pathwise gradients agree under a Normal prior.
def test_gradient_is_the_mean_of_trace_elbos_under_a_normal_prior():
    x, y = torch.randn(5, 2), torch.randn(5, 1)
    model, guide = regression(x, dist.Normal(0.0, 1.0), 0.5, init=-1.0)
    parameters = list(guide.parameters())

    def slopes(loss):
        return flat(torch.autograd.grad(loss, parameters))

    mean = slopes(exact_loss(model, guide, x, y))
    for objective in (AnalyticELBO(), Trace_ELBO()):
        draws = [slopes(objective.differentiable_loss(model, guide, x, y)) for _ in range(150)]
        assert z_of_mean(torch.stack(draws), mean).abs().max() < 5


# T13. Mutants: a wrong likelihood scale, KL weight != 1, sigma for sigma^2, a prior of another width.
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("width", [1.0, 0.3])
def test_optimum_of_conjugate_regression_is_the_posterior(rate, width):
    x, noise = torch.randn(12, 3) @ torch.randn(3, 3), 0.8
    y = x @ torch.randn(3, 1) + noise * torch.randn(12, 1)
    precision = x.mT @ x / noise**2 + torch.eye(3) / width**2
    mean = torch.linalg.solve(precision, x.mT @ y / noise**2)
    model, guide = regression(x, dist.Normal(0.0, width), noise, rate, init=-3.0)
    q = fitted(model, guide, x, y)
    torch.testing.assert_close(q.mean, mean.mT, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(q.variance, 1 / precision.diagonal().reshape(1, -1), rtol=1e-6, atol=0)


# T13. Mutants: n read as the batch size, or beta put on the likelihood: the optimum under a tempered prior.
def test_kl_weight_tempers_the_posterior():
    x, noise, beta = torch.randn(12, 3), 0.8, 0.25
    y = x @ torch.randn(3, 1) + noise * torch.randn(12, 1)
    precision = x.mT @ x / noise**2 / beta + torch.eye(3)
    mean = torch.linalg.solve(precision, x.mT @ y / noise**2 / beta)
    model, guide = regression(x, dist.Normal(0.0, 1.0), noise, init=-3.0)
    with kl_weight(beta):
        q = fitted(model, guide, x, y)
    torch.testing.assert_close(q.mean, mean.mT, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(q.variance, 1 / precision.diagonal().reshape(1, -1), rtol=1e-6, atol=0)


# T13. Mutants: a noisy point, a prior left out: the Delta guide's optimum is ridge regression, or least squares.
@pytest.mark.parametrize(("prior", "ridge"), [(Flat(), 0.0), (dist.Normal(0.0, 0.5), 4.0)])
def test_optimum_of_a_point_guide_is_ridge_regression(prior, ridge):
    x, y, noise = torch.randn(9, 3), torch.randn(9, 1), 0.7
    model = lift(nn.Linear(3, 1, bias=False), prior=prior, likelihood=Gaussian(noise), num_data=9)
    guide = guides.none.Guide(model)
    minimize(lambda: AnalyticELBO().differentiable_loss(model, guide, x, y), guide)
    best = torch.linalg.solve(x.mT @ x / noise**2 + ridge * torch.eye(3), x.mT @ y / noise**2)
    torch.testing.assert_close(guide.q("weight").mean, best.mT, rtol=1e-7, atol=1e-7)


# T14. Mutants: any wrong factor in the hierarchical KL, log(1 + 1/alpha) without its half, gamma = sigma^2.
@pytest.mark.parametrize("rate", RATES)
def test_closed_form_optimum_of_the_hierarchical_prior(rate):
    curvature, ols = 400.0, [0.5, -0.3, 0.1]
    x, y = orthogonal_data(curvature, 0.5, ols)
    model, guide = regression(x, EmpiricalBayes, 0.5, rate, init=-5.0, start=torch.tensor([ols]))
    q = fitted(model, guide, x, y)
    best = torch.tensor([ols])
    z2 = curvature * best.square()
    torch.testing.assert_close(q.mean, best * (1 - 1 / z2), rtol=1e-6, atol=0)
    torch.testing.assert_close(q.variance, (1 - 1 / z2) / curvature, rtol=1e-6, atol=0)
    torch.testing.assert_close(q.log_alpha, -(z2 - 1).log(), rtol=1e-6, atol=0)


def slope_by_hand(name: str, log_alpha: float) -> float:
    """-d KL / d log_alpha, by SciPy and the published formulas."""
    if name == "exact":
        root = math.exp(-log_alpha / 2) / math.sqrt(2)
        return root * float(dawsn(root))
    slope = 0.5 / (1 + math.exp(log_alpha))
    if name == "molchanov":
        s = 1 / (1 + math.exp(-1.87320 - 1.48695 * log_alpha))
        slope += 0.63576 * 1.48695 * s * (1 - s)
    return slope


def best_log_alpha(name: str, curvature: float, ols: float) -> float:
    """Stationarity in log_alpha at theta = ols / (1 + alpha): curvature * alpha * theta^2 / 2 = -dKL/dlog_alpha."""

    def residual(log_alpha):
        alpha = math.exp(log_alpha)
        return curvature * alpha * (ols / (1 + alpha)) ** 2 / 2 - slope_by_hand(name, log_alpha)

    return brentq(residual, -12, 0.5, xtol=1e-14)


# T15. Mutants: one KL swapped for another (they differ by 0.007 to 0.02 here), any wrong factor in any.
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("name", "published"), [("exact", -4.5740), ("molchanov", -4.5816), ("hierarchical", -4.5951)])
def test_optimum_of_each_scale_free_prior(name, published, rate):
    curvature, ols = 400.0, [0.5, -0.2]
    x, y = orthogonal_data(curvature, 0.5, ols)
    model, guide = regression(x, SCALE_FREE[name], 0.5, rate, init=-5.0, start=torch.tensor([ols]))
    q = fitted(model, guide, x, y)
    assert q.log_alpha[0, 0].item() == pytest.approx(published, abs=1e-4)
    roots = torch.tensor([[best_log_alpha(name, curvature, value) for value in ols]])
    torch.testing.assert_close(q.log_alpha, roots, rtol=1e-6, atol=0)
    torch.testing.assert_close(q.variance, q.mean * (torch.tensor([ols]) - q.mean), rtol=1e-6, atol=0)


# T14, T15. Mutants: a KL too weak to prune noise (z2 < 1), or so strong that it prunes signal (z2 > 1).
@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize(("z2", "kept"), [(0.7, False), (1.5, True), (25.0, True)])
def test_noise_has_no_optimum_and_signal_has_one(name, z2, kept):
    curvature = 400.0
    ols = (z2 / curvature) ** 0.5
    x, y = orthogonal_data(curvature, 0.5, [ols])
    model, guide = regression(x, SCALE_FREE[name], 0.5, "log_alpha", init=0.0)
    theta, rate = guide.parameters()
    losses = []
    for log_alpha in torch.linspace(-8, 8, 65):
        with torch.no_grad():
            rate.fill_(log_alpha)
            theta.fill_(ols / (1 + log_alpha.exp()))
            losses.append(exact_loss(model, guide, x, y))
    falls = torch.stack(losses).diff() < 0
    assert falls[0]
    turns = falls.diff().sum().item()
    assert turns == (1 if kept else 0)


# Mutants: a weight's KL averaged over draws of another number, a sum over particles, gradients not accumulated.
def test_particles_are_averaged():
    model, guide = network_pair(MOLCHANOV)
    data = batch()
    pyro.set_rng_seed(3)
    one_by_one = [AnalyticELBO().loss(model, guide, *data) for _ in range(3)]
    pyro.set_rng_seed(3)
    assert AnalyticELBO(num_particles=3).loss(model, guide, *data) == pytest.approx(sum(one_by_one) / 3, rel=1e-13)


# Mutants: loss that leaves gradients, loss_and_grads that returns another number or overwrites.
def test_loss_and_grads_backpropagates_the_loss():
    model, guide = network_pair(HIERARCHICAL)
    data = batch()
    with posterior_mean():
        loss = AnalyticELBO().loss(model, guide, *data)
        assert isinstance(loss, float)
        assert all(p.grad is None for p in guide.parameters())
        assert AnalyticELBO().loss_and_grads(model, guide, *data) == pytest.approx(loss, rel=1e-14)
        once = [p.grad.clone() for p in guide.parameters()]
        AnalyticELBO().loss_and_grads(model, guide, *data)
    for p, grad in zip(guide.parameters(), once, strict=True):
        torch.testing.assert_close(p.grad, 2 * grad)


# Mutants: terms that do not add up, a KL reported after its weight, a site under another name.
def test_terms():
    model, guide = network_pair(EXACT)
    x, y = batch()
    with posterior_mean(), kl_weight(0.25):
        terms = AnalyticELBO().terms(model, guide, x, y)
    assert list(terms.kl) == ["0.weight", "2.weight"]
    for site, kl in terms.kl.items():
        torch.testing.assert_close(kl, kl_divergence(guide.q(site), EXACT).sum(), rtol=1e-13, atol=0)
    torch.testing.assert_close(terms.weighted_kl, 0.25 * sum(terms.kl.values()), rtol=1e-13, atol=0)
    torch.testing.assert_close(terms.loss, terms.weighted_kl - terms.log_likelihood, rtol=0, atol=0)
    net = model.network({site: guide.q(site).mean for site in guide.sites})
    by_hand = -10 * nn.functional.cross_entropy(net(x), y, reduction="sum")
    torch.testing.assert_close(terms.log_likelihood, by_hand, rtol=1e-12, atol=0)
    shares = terms.per_example(60)
    assert shares["log_likelihood"] == pytest.approx(by_hand.item() / 60)
    assert shares["kl/2.weight"] == pytest.approx(terms.kl["2.weight"].item() / 60)


# Mutants: a Monte Carlo fallback where there is no closed form, a message that does not say which site or pair.
@pytest.mark.parametrize(
    ("scheme", "prior", "pair"),
    [
        (guides.none, MOLCHANOV, r"KL\(Delta \|\| LogUniform\).*no finite optimum"),
        (guides.none, EXACT, r"KL\(Delta \|\| LogUniform\).*no finite optimum"),
        (guides.none, HIERARCHICAL, r"KL\(Delta \|\| EmpiricalBayes\).*no finite optimum"),
        (guides.sparse, Flat(), r"KL\(WeightNormal \|\| Flat\)"),
        (guides.sparse, dist.StudentT(3.0), r"KL\(WeightNormal \|\| StudentT\)"),
    ],
)
def test_pairs_without_a_kl_are_refused_by_name(scheme, prior, pair):
    model, guide = network_pair(prior, scheme)
    with pytest.raises(NotImplementedError, match=rf"site '0.weight'.*{pair}.*MonteCarloKL"):
        AnalyticELBO().differentiable_loss(model, guide, *batch())


# Mutant: the base distribution's name in the place of a transformed one's.
def test_a_transformed_posterior_is_named_as_itself():
    def program(q):
        pyro.sample("w", q.expand([2]).to_event(1))

    with pytest.raises(NotImplementedError, match=r"KL\(LogNormal \|\| Normal\)"):
        AnalyticELBO().loss(lambda: program(dist.Normal(0.0, 1.0)), lambda: program(dist.LogNormal(0.0, 1.0)))


# Mutant: the hierarchical prior's missing density used by a Monte Carlo objective, through the real model.
def test_monte_carlo_refuses_the_hierarchical_prior_by_name():
    model, guide = network_pair(HIERARCHICAL, guides.hierarchical)
    with pytest.raises(NotImplementedError, match="EmpiricalBayes has no density over weights"):
        Trace_ELBO().loss(model, guide, *batch())


# Mutant: a site of one side only, silently dropped from the objective.
def test_sites_of_one_side_only_are_refused_by_name():
    def both():
        pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", dist.Normal(0.0, 1.0))

    def one():
        pyro.sample("a", dist.Normal(0.0, 1.0))

    with pytest.raises(UserError, match=r"lacks the sites \['b'\]"):
        AnalyticELBO().loss(both, one)
    with pytest.raises(UserError, match=r"has \['b'\] that the model does not"):
        AnalyticELBO().loss(one, both)


# Mutant: a masked KL counted in full; as in Pyro, the guide's mask counts.
def test_masks_are_pyros():
    mask = torch.tensor([True, False, True])

    def model():
        with poutine.mask(mask=mask):
            w = pyro.sample("w", EXACT.expand(torch.Size([3])))
        pyro.sample("y", dist.Normal(w, 1.0).mask(mask).to_event(1), obs=torch.zeros(3))

    def guide():
        with poutine.mask(mask=mask):
            pyro.sample("w", WeightNormal(torch.ones(3), log_alpha=torch.tensor([-1.0, 0.0, 1.0])))

    model, guide = (poutine.trace(program) for program in (model, guide))
    kl = kl_divergence(WeightNormal(torch.ones(2), log_alpha=torch.tensor([-1.0, 1.0])), EXACT).sum()
    torch.testing.assert_close(AnalyticELBO().terms(model, guide).kl["w"], kl)


# Mutant: an objective that evaluates a weight's log density (slow, and infinite at w = 0 under the log-uniform prior).
def test_no_weights_log_density_is_evaluated(monkeypatch):
    def refuse(self, value):
        raise AssertionError("a weight's log density was asked for")

    for cls in (WeightNormal, LogUniform):
        monkeypatch.setattr(cls, "log_prob", refuse)
    model, guide = network_pair(MOLCHANOV)
    assert math.isfinite(AnalyticELBO().loss(model, guide, *batch()))


# Mutant: an ELBO that stock SVI cannot drive, or that trains nothing.
def test_stock_svi_reaches_the_closed_form():
    x, y = orthogonal_data(400.0, 0.5, [0.5])
    model, guide = regression(x, EmpiricalBayes, 0.5, init=-8.0, start=torch.tensor([[0.3]]))
    adam = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.98}
    schedule = pyro.optim.ExponentialLR(adam)
    svi = SVI(model, guide, schedule, AnalyticELBO())
    for _ in range(200):
        svi.step(x, y)
        schedule.step()
    q = guide.q("weight")
    assert q.mean.item() == pytest.approx(0.495, abs=0.02)
    assert q.log_sigma2.item() == pytest.approx(math.log(0.002475), abs=0.5)
