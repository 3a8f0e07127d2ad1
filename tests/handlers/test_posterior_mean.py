"""posterior_mean: every latent site at its mean, nothing else touched."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import guides
from pyro_vd.handlers import posterior_mean


# Mutants: loc for mean, a draw, the mean of the wrong event shape.
@pytest.mark.parametrize(
    "q",
    [
        dist.Normal(torch.tensor([1.0, -2.0]), 3.0),
        dist.LogNormal(torch.tensor([0.0, 1.0]), 0.5),
        dist.Gamma(torch.tensor([2.0, 3.0]), 4.0),
        dist.Beta(torch.tensor([2.0, 3.0]), 4.0),
        dist.Bernoulli(torch.tensor([0.2, 0.9])),
        dist.Delta(torch.tensor([5.0, 6.0])),
        dist.Dirichlet(torch.tensor([[1.0, 3.0], [2.0, 2.0]])),
        pyro_vd.WeightNormal(torch.tensor([1.0, 0.0]), log_alpha=torch.zeros(2)),
    ],
    ids=lambda q: type(q).__name__,
)
def test_latent_sites_get_their_mean(q):
    for event_dims in range(len(q.batch_shape) + 1):
        with posterior_mean():
            value = pyro.sample("w", q.to_event(event_dims))
        assert torch.equal(value, q.mean)


# Mutants: observations overwritten, a conditioned or replayed value overwritten.
def test_given_values_stay():
    def program():
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        return w, pyro.sample("y", dist.Normal(w, 1.0), obs=torch.tensor(7.0))

    with posterior_mean():
        assert [v.item() for v in program()] == [0.0, 7.0]
        assert pyro.poutine.condition(program, data={"w": torch.tensor(2.0)})()[0] == 2.0
        assert pyro.poutine.trace(program).get_trace().nodes["y"]["value"] == 7.0
    trace = pyro.poutine.trace(program).get_trace()
    with posterior_mean():
        assert pyro.poutine.replay(program, trace=trace)()[0] == trace.nodes["w"]["value"]


# Mutants: random numbers consumed, a detached mean.
def test_it_is_deterministic_and_differentiable():
    loc = torch.tensor(2.0, requires_grad=True)
    before = torch.get_rng_state()
    with posterior_mean():
        value = pyro.sample("w", dist.Normal(loc, 1.0))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.autograd.grad(value, loc)[0] == 1.0


@pytest.mark.parametrize("prior", [pyro_vd.LogUniform, pyro_vd.EmpiricalBayes, pyro_vd.Flat])
def test_a_distribution_without_a_mean_raises(prior):
    with pytest.raises(NotImplementedError), posterior_mean():
        pyro.sample("w", prior())


# Mutant: NaN weights, and NaN logits with them, where the docstring promises an error.
def test_a_mean_that_does_not_exist_raises():
    with pytest.raises(NotImplementedError), posterior_mean():
        pyro.sample("w", dist.Cauchy(torch.zeros(2), 1.0))


# Mutants: the guide's handler forgotten on the model's side; a mask at the mean without a threshold.
@pytest.mark.parametrize("scheme", guides.SCHEMES)
def test_a_guide_at_its_mean_is_the_network_it_started_from(scheme):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model = pyro_vd.lift(net, guides.SCHEMES[scheme].prior, pyro_vd.Categorical, 5)
    guide, x = guides.SCHEMES[scheme].Guide(model), torch.randn(5, 3)
    with posterior_mean():
        trace = pyro.poutine.trace(guide).get_trace(x)
    torch.testing.assert_close(pyro.poutine.replay(model, trace=trace)(x), net(x))
    torch.testing.assert_close(pyro_vd.Posterior(model, guide).mean()(x), net(x))


# Mutant: the outer handler wins, so that a part of a model cannot be sampled inside.
def test_the_inner_handler_decides():
    with posterior_mean(), pyro_vd.local_reparam():
        assert not torch.is_tensor(pyro.sample("w", dist.Normal(torch.zeros(2), 1.0)))
    with pyro_vd.local_reparam(), posterior_mean():
        assert torch.is_tensor(pyro.sample("w", dist.Normal(torch.zeros(2), 1.0)))
