"""DeepEnsemble: the mixture of its members, with equal weights."""

import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import DeepEnsemble, Flat, Gaussian, Posterior, guides, lift
from pyro_vd.errors import UserError
from tests._pairs import examples, pair

MEMBERS = 3


def constant(value, scale=0.1, outputs=1):
    """Predicts this number for every input, without uncertainty about it."""
    net = nn.Linear(1, outputs)
    nn.init.zeros_(net.weight)
    nn.init.constant_(net.bias, value)
    model = lift(net, Flat, Gaussian(scale), num_data=10)
    return Posterior(model, guides.none.Guide(model))


X = torch.randn(7, 1, generator=torch.Generator().manual_seed(0))


def test_every_member_has_its_draws():
    ensemble = DeepEnsemble(map(constant, (0.0, 1.0, 5.0)))
    assert ensemble.predict(X, num_samples=6)[:, 0, 0].tolist() == [0, 1, 5, 0, 1, 5]
    assert ensemble.predict_mean(X, num_samples=3).allclose(torch.full((7, 1), 2.0))


def test_an_ensemble_of_one_is_its_member():
    x, _ = examples()
    posterior = Posterior(*pair(init=-3.0))
    found = []
    for one in (posterior, DeepEnsemble([posterior])):
        torch.manual_seed(0)
        found.append([one.predict(x, 4), one.predict_mean(x, 4), one.predictive(x, 4)])
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def test_each_member_has_its_own_noise():
    torch.manual_seed(0)
    ensemble = DeepEnsemble([constant(0.0, scale=0.1), constant(0.0, scale=10.0)])
    draws = ensemble.predictive(torch.zeros(2000, 1), num_samples=4)
    assert draws.std((1, 2)).tolist() == pytest.approx([0.1, 10.0, 0.1, 10.0], rel=0.1)


def test_the_interval_is_that_of_the_mixture():
    low, high = DeepEnsemble([constant(0.0, 1e-3), constant(1.0, 1e-3)]).interval(X, num_samples=200, batch_size=3)
    torch.testing.assert_close(low, torch.zeros(7, 1), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.ones(7, 1), atol=0.01, rtol=0)


def test_members_of_fit_seeds_predict_their_average():
    def make():
        model = lift(nn.Linear(1, 1), Flat, Gaussian(0.1, learn_scale=True), num_data=7)
        return model, guides.none.Guide(model)

    data = (X, 2 * X)
    members = pyro_vd.fit_seeds(make, data, seeds=range(MEMBERS), epochs=2, engine="eager", progress=False)
    average = torch.stack([member.mean()(X) for member in members]).mean(0)
    torch.testing.assert_close(DeepEnsemble(members).predict_mean(X, num_samples=MEMBERS), average.detach())


@pytest.mark.parametrize("num_samples", [1, 2, 4])
def test_draws_that_cannot_be_divided_are_refused(num_samples):
    ensemble = DeepEnsemble(map(constant, (0.0, 1.0, 5.0)))
    for call in (ensemble.predict, ensemble.predict_mean, ensemble.predictive, ensemble.interval):
        with pytest.raises(UserError, match=f"num_samples={num_samples} cannot be divided among 3 members"):
            call(X, num_samples)


def test_what_is_no_ensemble_is_refused():
    with pytest.raises(UserError, match="these are nothing"):
        DeepEnsemble([])
    with pytest.raises(UserError, match="these are Posterior, Linear"):
        DeepEnsemble([constant(0.0), nn.Linear(1, 1)])
    differing = DeepEnsemble([constant(0.0, outputs=2), constant(0.0)])
    for call in (differing.predict, differing.predict_mean):
        with pytest.raises(UserError, match=r"shapes \(7, 2\) and \(7, 1\)"):
            call(X, 2)
