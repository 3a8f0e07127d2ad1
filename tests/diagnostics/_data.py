"""Posteriors and data of the tests of diagnostics: a small network, and a regression whose posterior is known."""

import math

import pyro.distributions as dist
import torch
from torch import nn

from pyro_vd import Categorical, Gaussian, LogUniform, Posterior, guides, lift
from pyro_vd.diagnostics import to_arviz

SHAPE = (1, 6, 6)


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 4))


def posterior_of(net=None, scheme="sparse", prior=LogUniform, likelihood=Categorical, seed=0, **options):
    torch.manual_seed(seed)
    net = net or network()
    guide = getattr(guides, scheme)
    model = lift(net, prior, likelihood, num_data=1000)
    return Posterior(model, guide.Guide(model, **options))


def one_weight(theta, variance, prior=None, **options):
    """A Gaussian guide over the one weight of a linear network without bias."""
    net = nn.Linear(1, 1, bias=False)
    model = lift(net, prior or dist.Normal(0.0, 2.0), Gaussian(1.0), num_data=4)
    posterior = Posterior(model, guides.sparse.Guide(model, **options))
    with torch.no_grad():
        posterior.guide.theta["weight"].fill_(theta)
        posterior.guide.log_sigma2["weight"].fill_(math.log(variance))
    return posterior


# The posterior of w ~ N(0, 4), y = x w + N(0, 1) at these data: precision 0.25 + 10, mean 11.5 / 10.25.
REGRESSION = torch.tensor([[0.0], [1.0], [0.0], [3.0]]), torch.tensor([[0.5], [-0.5], [1.0], [4.0]])
MEAN, VARIANCE = 11.5 / 10.25, 1 / 10.25


def conjugate_draws(x, y, num_samples=4000):
    """ArviZ data of the exact posterior of w ~ N(0, 4), y = x w + N(0, 1)."""
    variance = 1 / float(0.25 + x.square().sum())
    return to_arviz(one_weight(variance * float((x * y).sum()), variance), (x, y), num_samples=num_samples)
