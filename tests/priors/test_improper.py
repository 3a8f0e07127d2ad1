import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch.distributions import kl_divergence

from pyro_vd.elbo import AnalyticELBO
from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import EmpiricalBayes, Flat, LogUniform
from pyro_vd.priors._improper import UndefinedLogProb

PRIORS = [Flat, EmpiricalBayes, LogUniform]
THETA, LOG_ALPHA = torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[-1.0, 0.0, 1.0]])


def pair(prior):
    """A model and guide over one 1x3 weight with three observations."""

    def model():
        w = pyro.sample("w", prior.expand(torch.Size([1, 3])).to_event(2))
        pyro.sample("y", dist.Normal(w, 1.0).to_event(2), obs=torch.zeros(1, 3))

    def guide():
        pyro.sample("w", WeightNormal(THETA, log_alpha=LOG_ALPHA).to_event(2))

    return model, guide


# Mutants: a sampler that returns zeros or noise, a refusal that names the wrong class or gives no way out.
@pytest.mark.parametrize("draw", ["sample", "__call__"])
@pytest.mark.parametrize("prior", PRIORS)
def test_sampling_is_refused_by_name(prior, draw):
    for p in (prior(), prior().expand(torch.Size([2])), prior().expand(torch.Size([2])).to_event(1)):
        assert not p.has_rsample
        with pytest.raises(NotImplementedError, match=f"{prior.__name__} has no samples.*Normal.*init_to_value"):
            getattr(p, draw)()


# Mutant: an expand that shares state with, or reshapes, its original.
@pytest.mark.parametrize("prior", PRIORS)
def test_expand_makes_a_new_prior_of_the_shape(prior):
    p = prior()
    wide = p.expand(torch.Size([4, 3]))
    assert type(wide) is prior
    assert (p.batch_shape, p.event_shape) == ((), ())
    assert (wide.batch_shape, wide.event_shape) == ((4, 3), ())
    joint = wide.to_event(2)
    assert (joint.batch_shape, joint.event_shape) == ((), (4, 3))
    assert wide.support is p.support


# Mutant: a flat prior with a slope, a constant, or another dtype or shape.
def test_flat_log_density_is_zero():
    w = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(Flat().log_prob(w), torch.zeros_like(w))
    assert Flat().expand(torch.Size([4, 3])).to_event(2).log_prob(w) == 0


# Mutants: a number where there is no density, a lost name, a shape that the trace cannot reduce.
def test_empirical_bayes_has_no_density():
    density = EmpiricalBayes().log_prob(torch.zeros(2, 3))
    assert isinstance(density, UndefinedLogProb)
    assert density.shape == (2, 3)
    assert density.sum(-1).shape == (2,)
    assert density.sum().shape == ()
    assert density.reshape(6).shape == density.reshape(-1).shape == (6,)
    assert (density * 2.0).shape == (2, 3)
    assert not torch.isnan(density)
    assert not torch.isinf(density)


# Mutant: an operation through which UndefinedLogProb becomes a number.
@pytest.mark.parametrize(
    "use",
    [
        lambda d: d + 1.0,
        lambda d: 1.0 + d,
        lambda d: d - torch.ones(3),
        lambda d: torch.ones(3) - d,
        lambda d: torch.ones(3) + d,
        lambda d: torch.ones(3) * d,
        lambda d: -d,
        lambda d: float(d.sum()),
        lambda d: d.sum().item(),
        lambda d: torch.logsumexp(d, 0),
        lambda d: torch.add(torch.ones(3), d),
        lambda d: sum([d.sum()]),
    ],
)
def test_no_density_refuses_to_become_a_number(use):
    with pytest.raises(NotImplementedError, match=r"EmpiricalBayes has no density over weights.*AnalyticELBO"):
        use(EmpiricalBayes().log_prob(torch.zeros(3)))


# Mutants: EmpiricalBayes with some density (Monte Carlo runs on nonsense), or one that raises too early.
@pytest.mark.parametrize(
    ("elbo", "method"),
    [(elbo, method) for elbo in (Trace_ELBO, TraceGraph_ELBO) for method in ("loss", "loss_and_grads")]
    + [(Trace_ELBO, "differentiable_loss")],
)
def test_monte_carlo_objectives_refuse_empirical_bayes_by_name(elbo, method):
    with pytest.raises(NotImplementedError, match="EmpiricalBayes has no density over weights"):
        getattr(elbo(), method)(*pair(EmpiricalBayes()))


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("scale", [None, 0.25])
def test_mean_field_objective_takes_empirical_bayes(scale, validation):
    pyro.enable_validation(validation)
    model, guide = pair(EmpiricalBayes())
    if scale is not None:
        model, guide = poutine.scale(model, scale=scale), poutine.scale(guide, scale=scale)
    pyro.set_rng_seed(1)
    theirs = TraceMeanField_ELBO().loss(model, guide)
    pyro.set_rng_seed(1)
    assert AnalyticELBO().loss(model, guide) == pytest.approx(theirs, rel=1e-6)
    q = WeightNormal(THETA, log_alpha=LOG_ALPHA)
    kl = AnalyticELBO().terms(model, guide).kl["w"]
    torch.testing.assert_close(kl, kl_divergence(q, EmpiricalBayes()).sum())


# Mutant: a prior whose log density a Monte Carlo objective cannot use although it has one.
@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("prior", [LogUniform("molchanov"), LogUniform("exact"), Flat()])
def test_priors_with_a_density_pass_monte_carlo(prior, elbo):
    assert torch.isfinite(torch.tensor(elbo().loss(*pair(prior))))


# Mutant: a refusal that breaks predictive use, where the guide or a condition supplies the weights.
@pytest.mark.parametrize("prior", PRIORS)
def test_given_weights_nothing_is_sampled(prior):
    model, guide = pair(prior())
    conditioned = poutine.condition(model, data={"w": THETA})
    assert torch.equal(poutine.trace(conditioned).get_trace().nodes["w"]["value"], THETA)
    replayed = poutine.replay(model, trace=poutine.trace(guide).get_trace())
    assert poutine.trace(replayed).get_trace().nodes["w"]["value"].shape == (1, 3)
    with pytest.raises(NotImplementedError, match=f"{prior.__name__} has no samples"):
        model()
