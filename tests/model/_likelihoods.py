"""Fits for the tests of likelihoods: a step by the library, and the maximum likelihood by L-BFGS."""

import torch
from torch import nn

import pyro_vd
from pyro_vd import guides

N = 40


def fit(likelihood, y, outputs=1):
    """One step of a linear network."""
    torch.manual_seed(0)
    model = pyro_vd.lift(nn.Linear(3, outputs), pyro_vd.Flat, likelihood, num_data=len(y))
    guide = guides.none.Guide(model)
    return pyro_vd.fit(
        model, guide, (torch.randn(len(y), 3), y), epochs=1, batch_size=len(y), seed=0, engine="eager", progress=False
    )


def maximize(likelihood, y, x, outputs=1):
    """The network's outputs at the maximum likelihood of a linear network and of the likelihood's parameters."""
    torch.manual_seed(0)
    net = nn.Linear(x.shape[-1], outputs)
    learned = list(likelihood.parameters()) if isinstance(likelihood, nn.Module) else []
    optimizer = torch.optim.LBFGS([*net.parameters(), *learned], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = -likelihood(net(x)).log_prob(y).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return net(x).detach()
