"""MonteCarloKL: asked for by name, one weight draw for the KL alone, and the pair trains under it."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

import pyro_vd
from pyro_vd import EmpiricalBayes, Flat, Horseshoe, LogUniform, MonteCarloKL, guides, spike_and_slab
from pyro_vd.errors import CheckpointError
from pyro_vd.inference.engine import Objective, trace_objective
from pyro_vd.model.pair import describe_prior

PRIORS = {
    "StudentT": dist.StudentT(3.0, 0.0, 0.5),
    "Horseshoe": Horseshoe(1.0),
    "spike_and_slab": spike_and_slab(1.0, 0.05),
}


def pair(prior, scheme="sparse"):
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    model = pyro_vd.lift(net, prior, pyro_vd.Categorical, 100)
    return model, guides.SCHEMES[scheme].Guide(model)


def data():
    x = torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


@pytest.mark.parametrize(
    "prior", [LogUniform(), EmpiricalBayes(), Flat(), MonteCarloKL(Horseshoe(1.0)), 1.0, Horseshoe]
)
def test_what_has_nothing_to_sample_is_refused(prior):
    with pytest.raises(TypeError, match=r"MonteCarloKL\(.*give an instance of a proper prior"):
        MonteCarloKL(prior)


@pytest.mark.parametrize(
    "prior", [dist.HalfCauchy(1.0), dist.Bernoulli(0.3, validate_args=False), dist.Uniform(-1.0, 1.0)]
)
def test_priors_over_less_than_the_real_line_are_refused(prior):
    with pytest.raises(TypeError, match="must be the whole real line"):
        MonteCarloKL(prior)


@pytest.mark.parametrize("name", PRIORS)
def test_the_pair_trains(name):
    model, guide = pair(MonteCarloKL(PRIORS[name]))
    posterior = pyro_vd.fit(model, guide, data(), epochs=60, batch_size=50, lr=0.02, engine="eager", progress=False)
    x, y = data()
    assert (posterior.mean()(x).argmax(1) == y).float().mean() > 0.95
    assert posterior.history[-1]["loss"] < posterior.history[0]["loss"]


@pytest.mark.parametrize("name", PRIORS)
def test_it_is_traced_as_one_graph(name):
    model, guide = pair(MonteCarloKL(PRIORS[name]))
    objective, (x, y) = Objective(model, guide), data()
    traced = trace_objective(objective, x, y)
    losses = []
    for program in (objective, traced):
        torch.manual_seed(5)
        losses.append(program(x, y, torch.tensor(1.0))[0])
    torch.testing.assert_close(*losses)


def test_the_draw_serves_the_kl_alone():
    """The likelihood under local_reparam still draws activations: its value does not change with the weight draw."""
    model, guide = pair(MonteCarloKL(dist.StudentT(3.0)))
    with torch.no_grad():
        for parameter in guide.log_sigma2.parameters():
            parameter.fill_(0.0)
    x, y = data()
    objective = Objective(model, guide)
    one, other = (objective(x, y, torch.tensor(1.0)) for _ in range(2))
    assert not torch.equal(one[2], other[2])
    # Equal examples get unequal outputs, which one weight draw would not give them.
    with pyro_vd.local_reparam():
        trace = poutine.trace(guide).get_trace()
        output = poutine.replay(model, trace=trace)(x[:1].expand(4, -1))
    assert output[:, 0].unique().numel() == 4


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_stock_objectives_take_the_prior(loss):
    model, guide = pair(MonteCarloKL(dist.StudentT(3.0)))
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.02}), loss())
    losses = [svi.step(*data()) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_a_proper_prior_has_samples_and_moments():
    prior = MonteCarloKL(dist.Normal(0.5, 2.0)).expand((3,))
    assert prior.sample((5,)).shape == (5, 3)
    assert prior.rsample().shape == (3,)
    torch.testing.assert_close(prior.mean, torch.full((3,), 0.5))
    torch.testing.assert_close(prior.variance, torch.full((3,), 4.0))
    assert prior.has_rsample
    assert prior.support is dist.constraints.real


def test_a_point_estimate_under_it_is_map():
    model, guide = pair(MonteCarloKL(dist.StudentT(3.0)), scheme="none")
    kl = pyro_vd.AnalyticELBO().terms(model, guide, *data()).kl
    for site, value in kl.items():
        torch.testing.assert_close(value, -dist.StudentT(3.0).log_prob(guide.theta[site]).sum())


@pytest.mark.parametrize(
    "arguments", [{"spike": 0.0}, {"spike": 2.0}, {"pi": 0.0}, {"pi": 1.0}, {"slab": float("inf")}]
)
def test_spike_and_slab_out_of_range(arguments):
    with pytest.raises(ValueError, match="0 < spike < slab and 0 < pi < 1"):
        spike_and_slab(**arguments)


def test_horseshoe_is_finite_and_steep_where_weights_live():
    w = torch.tensor([0.0, 1e-30, 1e-8, 1e-3, 1.0, 1e6, 1e12]).requires_grad_()
    density = Horseshoe(0.01).log_prob(w)
    density.sum().backward()
    assert density.isfinite().all()
    assert w.grad.isfinite().all()
    assert (density.diff() <= 0).all()
    with pytest.raises(ValueError, match="tau"):
        Horseshoe(0.0)


def test_a_checkpoint_knows_the_prior_inside(tmp_path):
    pyro_vd.Posterior(*pair(MonteCarloKL(dist.StudentT(3.0)))).save(tmp_path / "p")
    for other in (Horseshoe(0.1), dist.StudentT(3.0, 0.0, 0.5), dist.StudentT(4.0)):
        with pytest.raises(CheckpointError, match=r"MonteCarloKL\(StudentT\(df=3, loc=0, scale=1\)\)"):
            pyro_vd.Posterior(*pair(MonteCarloKL(other))).load(tmp_path / "p")
    pyro_vd.Posterior(*pair(MonteCarloKL(dist.StudentT(3.0)))).load(tmp_path / "p")


@pytest.mark.parametrize(
    ("prior", "name"),
    [
        (LogUniform("exact"), "LogUniform(kl='exact')"),
        (EmpiricalBayes("unit", dim=0), "EmpiricalBayes(dim=0, share='unit')"),
        (dist.Normal(0.0, 0.5), "Normal(loc=0, scale=0.5)"),
        (Flat(), "Flat()"),
        (pyro_vd.L0(0.25), "L0(cost=0.25)"),
        (pyro_vd.GroupHorseshoe(1e-3), "GroupHorseshoe(tau0=0.001)"),
        (
            spike_and_slab(1.0, 0.01, 0.25),
            "MixtureSameFamily(Normal(loc=0, scale=7c6f3b5d), Categorical(probs=0b5ccbbc))",
        ),
    ],
)
def test_a_prior_is_named_with_its_numbers(prior, name):
    prior.expand((2, 3)).log_prob(torch.ones(2, 3))  # torch keeps logits once it was asked for them
    digits = re.compile("[0-9a-f]{8}")
    assert digits.sub("#", describe_prior(prior)) == digits.sub("#", name)
    assert describe_prior(prior.expand((2, 3))).count("(") == name.count("(")


def test_the_priors_own_checks_stay_with_it():
    prior = dist.StudentT(3.0, 0.0, 0.1)
    wrapped = MonteCarloKL(prior)
    value = torch.tensor([0.3, -2.0])
    assert torch.equal(wrapped.log_prob(value), prior.log_prob(value))
    with pytest.raises(ValueError, match="within the support"):
        prior.log_prob(torch.tensor(float("nan")))
