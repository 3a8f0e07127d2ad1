"""Tiny pairs to code, shared by the tests of the random code."""

import torch
from torch import nn

import pyro_vd
from pyro_vd import guides
from pyro_vd.compress import encode_posterior

NUM = 400


def make():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def examples():
    x = torch.randn(NUM, 8, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(1)


def untrained(net=None, scheme=guides.hierarchical, select=lambda *_: True, **options):
    torch.manual_seed(0)
    net = make() if net is None else net
    prior = pyro_vd.EmpiricalBayes("layer") if scheme is guides.hierarchical else scheme.prior
    model = pyro_vd.lift(net, prior, pyro_vd.Categorical, NUM, select)
    return pyro_vd.Posterior(model, scheme.Guide(model, **options))


def encode(posterior, size=150, **options):
    how = {"epochs": 2, "coding_epochs": 1, "lr": 0.02, "bits": 8, "progress": False}
    return encode_posterior(posterior, examples(), size, **how | options)


class Tied(nn.Module):
    """The same weight twice, parameters that are not random, and running averages; names not in alphabetical order."""

    def __init__(self):
        super().__init__()
        self.z = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.a = nn.Linear(8, 8, bias=False)
        self.a.weight = self.z.weight
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.norm(self.a(self.z(x).relu())))
