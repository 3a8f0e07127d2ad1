"""Lifted models and guides under stock Pyro: SVI, its objectives, its handlers, Predictive and autoguides."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal, init_to_value
from pyro.infer.autoguide.initialization import InitMessenger, init_to_sample
from torch import nn

import pyro_vd
from pyro_vd import AnalyticELBO, LogUniform, guides, local_reparam

NORMAL = dist.Normal(0.0, 1.0)
N = 30


def data():
    x = torch.randn(N, 4)
    return x, x[:, :3].argmax(-1)


def lifted(prior):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    return pyro_vd.lift(net, prior, pyro_vd.Categorical, N)


def pair(scheme, prior=None):
    model = lifted(prior or guides.SCHEMES[scheme].prior)
    return model, guides.SCHEMES[scheme].Guide(model)


def trains(model, guide, objective, steps=50, lr=0.05):
    """The loss falls, every parameter of both sides moves, and all stays finite."""
    x, y = data()
    guide(x, y)
    before = [(p, p.detach().clone()) for module in (model, guide) for p in module.parameters()]
    svi = SVI(model, guide, pyro.optim.Adam({"lr": lr}), loss=objective)
    losses = [svi.step(x, y) for _ in range(steps)]
    assert all(isinstance(loss, float) for loss in losses)
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    assert all(not torch.equal(p, then) and p.isfinite().all() for p, then in before)
    assert isinstance(svi.evaluate_loss(x, y), float)


# Mutants: a guide of plain parameters, which stock SVI passes over; UndefinedLogProb adding up to a number.
@pytest.mark.parametrize("scheme", guides.SCHEMES)
@pytest.mark.parametrize("objective", [TraceMeanField_ELBO, AnalyticELBO])
def test_analytic_objectives_train_every_scheme(scheme, objective):
    trains(*pair(scheme), objective())


def test_trace_elbo_trains_sparse():
    trains(*pair("sparse", NORMAL), Trace_ELBO())


# Mutant: a log-uniform prior without a density.
def test_trace_elbo_runs_on_the_log_uniform_prior():
    """It runs on numbers that are right in value; its gradient has no mean (log|w|), so no descent is promised."""
    model, guide = pair("sparse")
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-4}), loss=Trace_ELBO())
    losses = torch.tensor([svi.step(*data()) for _ in range(5)])
    assert losses.isfinite().all()
    assert all(p.isfinite().all() for p in guide.parameters())


# Mutants: NaN or 0 as the log density of a prior that has none.
def test_trace_elbo_refuses_the_hierarchical_prior_by_name():
    model, guide = pair("hierarchical")
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss=Trace_ELBO())
    with pytest.raises(NotImplementedError, match=r"EmpiricalBayes.*AnalyticELBO"):
        svi.step(*data())


# Mutant: a Delta under a scale-free prior, whose optimum is minus infinity.
@pytest.mark.parametrize("prior", [LogUniform, pyro_vd.EmpiricalBayes])
def test_a_point_under_a_scale_free_prior_is_refused_by_name(prior):
    model, guide = pair("none", prior)
    with pytest.raises(NotImplementedError, match=r"0\.weight.*Delta.*" + prior.__name__):
        AnalyticELBO().loss(model, guide, *data())


@pytest.mark.parametrize("scheme", guides.SCHEMES)
@pytest.mark.parametrize("threshold", [math.inf, 3.0])
def test_analytic_elbo_under_local_reparam_trains(scheme, threshold):
    with local_reparam(threshold):
        trains(*pair(scheme), AnalyticELBO())


# Mutant: num_particles ignored, or losses summed.
def test_particles_are_averaged():
    model, guide = pair("sparse")
    x, y = data()
    pyro.set_rng_seed(5)
    single = [AnalyticELBO().loss(model, guide, x, y) for _ in range(3)]
    pyro.set_rng_seed(5)
    assert AnalyticELBO(num_particles=3).loss(model, guide, x, y) == pytest.approx(sum(single) / 3, rel=1e-5)


# Mutant: a plate's own sample site taken for a latent one.
def test_analytic_elbo_takes_models_with_plates():
    """A drop-in loss of SVI meets the plates of users' programs."""
    y = torch.tensor([0.5, -1.0, 2.0])

    def model():
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3):
            pyro.sample("y", dist.Normal(w, 1.0), obs=y)

    def guide():
        pyro.sample("w", dist.Normal(torch.tensor(0.3), 0.5))

    losses = []
    for objective in (AnalyticELBO(), TraceMeanField_ELBO()):
        pyro.set_rng_seed(0)
        losses.append(objective.loss(model, guide))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


# Mutants: sites under other names, y not sampled, one draw for all samples.
@pytest.mark.parametrize("prior", [NORMAL, None], ids=["normal", "own"])
@pytest.mark.parametrize("scheme", guides.SCHEMES)
def test_predictive(scheme, prior):
    model, guide = pair(scheme, prior)
    x, _ = data()
    drawn = Predictive(model, guide=guide, num_samples=4, return_sites=["y", "0.weight", "2.weight", "_RETURN"])(x)
    assert drawn["y"].shape == (4, N)
    assert drawn["_RETURN"].shape == (4, N, 3)
    assert drawn["0.weight"].squeeze(1).shape[-2:] == (6, 4)
    assert drawn["0.weight"].shape[0] == 4
    weights = drawn["0.weight"].reshape(4, -1)
    assert torch.equal(weights[0], weights[1]) == (scheme == "none")


# Mutant: a prior whose values win over those of the guide.
@pytest.mark.parametrize("scheme", guides.SCHEMES)
def test_predictive_with_initial_values_for_its_shape_run(scheme):
    """Predictive runs the model once without the guide, which an improper prior cannot: the way around it."""
    model, guide = pair(scheme)
    start = InitMessenger(init_to_value(values=model.initial, fallback=init_to_sample))(model)
    x, _ = data()
    pyro.set_rng_seed(4)
    drawn = Predictive(start, guide=guide, num_samples=2, return_sites=["_RETURN"])(x)["_RETURN"]
    pyro.set_rng_seed(4)
    weights = Predictive(guide, num_samples=2)(x)
    for i in range(2):
        own = {site: weights[site].reshape(2, *model.initial[site].shape)[i] for site in model.priors}
        torch.testing.assert_close(drawn[i], model.network(own)(x))


def test_prior_predictive():
    drawn = Predictive(lifted(NORMAL), num_samples=5)(data()[0])
    assert drawn["y"].shape == (5, N)
    with pytest.raises(NotImplementedError, match=r"LogUniform has no samples.*condition"):
        Predictive(lifted(LogUniform), num_samples=5)(data()[0])


# Mutants: weights drawn outside pyro.sample, a forward that reads weights of its own.
def test_trace_replay_condition_and_block():
    model, guide = pair("sparse")
    x, y = data()
    q = poutine.trace(guide).get_trace(x, y)
    p = poutine.trace(poutine.replay(model, trace=q)).get_trace(x, y)
    for site in model.priors:
        assert p.nodes[site]["value"] is q.nodes[site]["value"]
    weights = {site: q.nodes[site]["value"] for site in model.priors}
    conditioned = poutine.trace(poutine.condition(model, data=weights)).get_trace(x, y)
    assert all(conditioned.nodes[site]["is_observed"] for site in weights)
    torch.testing.assert_close(conditioned.nodes["_RETURN"]["value"], p.nodes["_RETURN"]["value"])
    torch.testing.assert_close(conditioned.nodes["_RETURN"]["value"], model.network(weights)(x))
    hidden = poutine.trace(poutine.block(poutine.replay(model, trace=q), hide=["0.weight"])).get_trace(x, y)
    assert "0.weight" not in hidden.nodes
    assert "2.weight" in hidden.nodes


# Mutant: the model and the guide on other sites; silence where one of them is missing.
def test_a_guide_over_other_sites_is_refused():
    model = lifted(NORMAL)
    other = pyro_vd.lift(nn.Linear(4, 3), NORMAL, pyro_vd.Categorical, N)
    with pytest.raises(ValueError, match=r"lacks the sites \['0\.weight', '2\.weight'\] and has \['weight'\]"):
        AnalyticELBO().loss(model, guides.sparse.Guide(other), *data())


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta])
def test_autoguides_on_a_proper_prior(auto):
    model = lifted(NORMAL)
    trains(model, auto(model), Trace_ELBO(), lr=0.03)


# Mutants: a support that is not the reals, initial values that are not the network's.
def test_autonormal_on_the_log_uniform_prior_starts_from_the_network():
    model = lifted(LogUniform)
    guide = AutoNormal(model, init_loc_fn=init_to_value(values=model.initial), init_scale=0.01)
    guide(*data())
    median = guide.median(*data())
    for site, weight in model.initial.items():
        torch.testing.assert_close(median[site], weight)
    trains(model, guide, Trace_ELBO(), lr=0.03)


# Mutants: a store entry per call, names that are not the module's.
def test_the_parameter_store_mirrors_both_modules():
    model, guide = pair("sparse")
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss=AnalyticELBO())
    for _ in range(3):
        svi.step(*data())
    stored = dict(pyro.get_param_store().named_parameters())
    expected = {f"{m._store_name}$$${name}": p for m in (model, guide) for name, p in m.named_parameters()}
    assert stored.keys() == expected.keys()
    assert all(stored[name] is p for name, p in expected.items())
