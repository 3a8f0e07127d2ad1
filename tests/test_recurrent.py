"""Recurrent layers: weights by weight sampling, refused by name under local_reparam."""

import copy

import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import guides
from pyro_vd.handlers import NoLocalRule

SITES = ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "fc.weight"]


class Net(nn.Module):
    """The last state of a recurrent layer, classified."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.rnn = kind(4, 6, batch_first=True)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, -1])


def pair(net, init=-4.0):
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, 100, select=SITES)
    return model, guides.sparse.Guide(model, init=init)


def data():
    x = torch.randn(100, 5, 4, generator=torch.Generator().manual_seed(0))
    return x, (x.sum((1, 2)) > 0).long()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_posterior_mean_is_the_network_and_draws_differ(kind):
    """Mutant: weights bound where the layer does not look, so that all draws are the network."""
    net, (x, _) = Net(kind), data()
    model, guide = pair(net)
    posterior = pyro_vd.Posterior(model, guide)
    torch.testing.assert_close(posterior.mean()(x), net(x))
    first, second = posterior.predict(x, 2)
    assert (first - second).abs().mean() > 1e-3
    sampled = posterior.sample()
    torch.testing.assert_close(sampled(x), copy.deepcopy(sampled)(x))
    assert isinstance(sampled.rnn, kind)


def test_it_trains_by_weight_sampling():
    model, guide = pair(Net())
    before = {name: p.detach().clone() for name, p in guide.named_parameters()}
    x, y = data()
    posterior = pyro_vd.fit(
        model, guide, (x, y), epochs=60, lr=0.03, estimator="weights", kl_schedule=lambda epoch: 0.1, progress=False
    )
    assert (posterior.mean()(x).argmax(1) == y).float().mean() > 0.9
    assert all(not torch.equal(p, before[name]) for name, p in guide.named_parameters())


def test_local_reparam_refuses_it_by_name():
    model, guide = pair(Net())
    with pytest.raises(NoLocalRule, match=r"'rnn\.weight_ih_l0' \(WeightNormal\) reached .*lstm"):
        pyro_vd.fit(model, guide, data(), epochs=1, progress=False)


def test_the_users_network_is_not_touched():
    net, (x, _) = Net(), data()
    before = net(x)
    model, guide = pair(net)
    pyro_vd.Posterior(model, guide).predict(x, 1)
    torch.testing.assert_close(net(x), before)
    assert [w is p for w, p in zip(net.rnn._flat_weights, net.rnn.parameters(), strict=True)] == 4 * [True]
    assert model.net.rnn._flat_weights[:2] == [None, None]  # no draw and no parameter of the user's is kept
