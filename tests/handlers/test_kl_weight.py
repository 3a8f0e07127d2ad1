"""kl_weight: beta times the KL, nothing else, in every objective."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

import pyro_vd
from pyro_vd import AnalyticELBO, guides, kl_weight, local_reparam

BETAS = [0.0, 0.25, 1.0, 3.0]
OBJECTIVES = [AnalyticELBO, TraceMeanField_ELBO, Trace_ELBO]


def pair():
    """Two latent sites, an observed one with a scale of its own, and a factor."""
    y = torch.tensor([0.5, -1.0, 2.0])

    def model():
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.poutine.scale(scale=2.0):
            v = pyro.sample("v", dist.Normal(torch.ones(2), 2.0).to_event(1))
        with pyro.poutine.scale(scale=5.0):
            pyro.sample("y", dist.Normal(w + v.sum(), 1.0).expand([3]).to_event(1), obs=y)
        pyro.factor("penalty", -w.square())

    def guide():
        pyro.sample("w", dist.Normal(torch.tensor(0.3), 0.5))
        with pyro.poutine.scale(scale=2.0):
            pyro.sample("v", dist.Normal(torch.tensor([0.1, -0.4]), 0.7).to_event(1))

    return model, guide


def scales(program):
    trace = pyro.poutine.trace(program).get_trace()
    return {name: float(site["scale"]) for name, site in trace.nodes.items() if site["type"] == "sample"}


# Mutants: the observed site or a factor scaled too, one side only, the plate's own scale overwritten.
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("make", [float, torch.tensor])
def test_scales_latent_sites_only_and_on_both_sides(beta, make):
    model, guide = pair()
    with kl_weight(make(beta)):
        got = [scales(model), scales(guide)]
    for side, plain in zip(got, (scales(model), scales(guide)), strict=True):
        for name, scale in plain.items():
            assert side[name] == (beta if name in ("w", "v") else 1.0) * scale
    assert got[0]["y"] == 5.0


def losses(objective, beta, model, guide, *args):
    """The objective at this beta, twice from one seed."""
    pyro.set_rng_seed(1)
    with kl_weight(beta):
        return objective().differentiable_loss(model, guide, *args).detach().double()


# Mutants: beta on the likelihood, on one of the two sampled terms, squared by meeting guide and model.
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("make", [float, torch.tensor])
def test_loss_is_minus_likelihood_plus_beta_kl(objective, make):
    """At one draw the loss is affine in beta: -log p(y | w) at 0, and the KL, or its one-draw estimate, as slope."""
    model, guide = pair()
    at_zero, at_one = losses(objective, 0.0, model, guide), losses(objective, 1.0, model, guide)
    pyro.set_rng_seed(1)
    q = pyro.poutine.trace(guide).get_trace()
    p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace()
    likelihood = p.log_prob_sum(lambda name, _: name in ("y", "penalty")).double()
    torch.testing.assert_close(at_zero, -likelihood)
    if objective is Trace_ELBO:
        kl = (q.log_prob_sum() - p.log_prob_sum(lambda name, _: name in ("w", "v"))).double()
    else:
        kl = AnalyticELBO().terms(model, guide).kl
        kl = (kl["w"] + 2 * kl["v"]).double()
    torch.testing.assert_close(at_one - at_zero, kl, rtol=1e-4, atol=1e-4)
    for beta in (0.25, 3.0):
        torch.testing.assert_close(
            losses(objective, make(beta), model, guide), at_zero + beta * kl, rtol=1e-4, atol=1e-4
        )


# Mutant: terms() weighting the reported KLs, so that a warm-up run's history understates them.
@pytest.mark.parametrize("beta", BETAS)
def test_terms_report_the_kl_before_the_weight(beta):
    model, guide = pair()
    plain = AnalyticELBO().terms(model, guide).kl
    with kl_weight(beta):
        terms = AnalyticELBO().terms(model, guide)
    assert terms.kl == plain
    torch.testing.assert_close(terms.weighted_kl, beta * (plain["w"] + 2 * plain["v"]))
    torch.testing.assert_close(terms.loss, terms.weighted_kl - terms.log_likelihood)


# Mutants: the weight dropped under local_reparam, for one order of the two handlers.
@pytest.mark.parametrize("order", [0, 1])
def test_goes_with_local_reparam_in_either_order(order):
    model = pyro_vd.lift(nn.Linear(3, 2), pyro_vd.LogUniform, pyro_vd.Categorical, 4)
    guide, x, y = guides.sparse.Guide(model), torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    values = {}
    for beta in (0.0, 1.0, 0.5):
        handlers = [kl_weight(beta), local_reparam()]
        pyro.set_rng_seed(2)
        with handlers[order], handlers[1 - order]:
            values[beta] = AnalyticELBO().terms(model, guide, x, y)
    assert values[0.0].loss == -values[0.0].log_likelihood == -values[1.0].log_likelihood
    torch.testing.assert_close(values[0.5].weighted_kl, 0.5 * values[1.0].weighted_kl)
    assert values[1.0].weighted_kl > 0


# Mutants: float(beta), .item(): a traced step would keep the value of its trace, and beta would get no gradient.
def test_tensor_beta_stays_a_tensor():
    model, guide = pair()
    beta = torch.tensor(0.7, requires_grad=True)
    with kl_weight(beta):
        terms = AnalyticELBO().terms(model, guide)
    (slope,) = torch.autograd.grad(terms.loss, beta)
    torch.testing.assert_close(slope, terms.kl["w"] + 2 * terms.kl["v"])
    handler = kl_weight(beta)
    with handler:
        before = AnalyticELBO().terms(model, guide).weighted_kl
    with torch.no_grad():
        beta.fill_(1.4)
    with handler:
        torch.testing.assert_close(AnalyticELBO().terms(model, guide).weighted_kl, 2 * before)


# Mutants: `beta > 0`, `not beta < 0` (lets NaN pass).
@pytest.mark.parametrize("beta", [-0.1, -1, math.inf, -math.inf, math.nan])
def test_refuses_what_is_no_weight(beta):
    with pytest.raises(ValueError, match="beta"):
        kl_weight(beta)


# Mutant: a handler that replaces the scale instead of multiplying it.
def test_nests_as_a_product_and_ends_with_the_block():
    model, _ = pair()
    with kl_weight(0.5), kl_weight(0.5), pyro.poutine.scale(scale=4.0):
        assert scales(model)["w"] == 1.0
        assert scales(model)["v"] == 2.0
        assert scales(model)["y"] == 20.0
    assert scales(model)["w"] == 1.0


# Mutant: conditioned or replayed values mistaken for latent ones.
def test_conditioned_sites_are_observed():
    model, _ = pair()
    with kl_weight(0.0):
        assert scales(pyro.poutine.condition(model, data={"w": torch.tensor(0.0)}))["w"] == 1.0


# Mutant: a KL weight of 0 that still pulls.
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_zero_takes_the_prior_out_of_svi(objective):
    """A step at beta = 0 does not depend on the prior; at beta = 1 it does."""
    results = {}
    for beta in (0.0, 1.0):
        for prior_mean in (-3.0, 3.0):
            pyro.set_rng_seed(0)
            pyro.clear_param_store()
            model = pyro_vd.lift(nn.Linear(3, 2), dist.Normal(prior_mean, 1.0), pyro_vd.Categorical, 4)
            guide = guides.sparse.Guide(model)
            with kl_weight(beta):
                svi = SVI(model, guide, pyro.optim.SGD({"lr": 0.01}), loss=objective())
                svi.step(torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))
            results[beta, prior_mean] = torch.cat([p.detach().flatten() for p in guide.parameters()])
    assert torch.equal(results[0.0, -3.0], results[0.0, 3.0])
    assert not torch.allclose(results[1.0, -3.0], results[1.0, 3.0])
