"""Pairs of a tiny network, the examples that they learn from, and fits of them that take a fraction of a second."""

import os
import signal

import torch
from torch import nn

from pyro_vd import Categorical, fit, guides, lift
from pyro_vd.inference.engine import Engine

N, FEATURES, CLASSES, BATCH = 50, 5, 3, 16  # 4 steps an epoch, the last with 2 examples
STEPS = 4


def examples(n=N):
    """Clusters around a center for every class."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(n) % CLASSES
    centers = 2 * torch.randn(CLASSES, FEATURES, generator=generator)
    return centers[labels] + 0.3 * torch.randn(n, FEATURES, generator=generator), labels


def network(hidden=6):
    return nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))


def normalized():
    bare = nn.Linear(FEATURES, 6, bias=False)  # the gradient of a bias would be rounding error, which Adam scales up
    return nn.Sequential(bare, nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES))


def batch_norm():
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, CLASSES))


def pair(scheme="sparse", net=None, seed=0, n=N, likelihood=Categorical, **options):
    """A model and a guide of the scheme, with their initial values from ``seed``."""
    torch.manual_seed(seed)
    chosen = guides.SCHEMES[scheme]
    model = lift(network() if net is None else net(), chosen.prior, likelihood, num_data=n)
    return model, chosen.Guide(model, **options)


def train(model, guide, data=None, training=None, **arguments):
    """A short fit, eager and without a progress bar unless ``arguments`` say otherwise."""
    short = {} if training else {"epochs": 2, "batch_size": BATCH, "lr": 0.01}
    arguments = {**short, "engine": "eager", "progress": False, **arguments}
    return fit(model, guide, examples() if data is None else data, training, **arguments)


def fresh(data=None, scheme="sparse", likelihood=Categorical, net=None, **arguments):
    """A short fit of a new pair."""
    return train(*pair(scheme, net, likelihood=likelihood), data, **arguments)


def state(engine):
    """Copies of parameters, buffers and the optimizer's state of an engine's pair."""
    tensors = {name: value.detach().clone() for name, value in engine.pair.objective.state_dict().items()}
    for name, parameter in engine.pair.objective.named_parameters():
        for key, value in engine.pair.optimizer.state.get(parameter, {}).items():
            tensors[f"{name}.{key}"] = value.clone()
    return tensors


def interrupt_at(monkeypatch, k, number=signal.SIGINT, times=1):
    """Sends the signal inside the k-th step, counted from 1; the step goes on if the handler lets it."""
    calls = []
    step = Engine.step

    def stepping(self, *args):
        calls.append(1)
        if len(calls) == k:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return step(self, *args)

    monkeypatch.setattr(Engine, "step", stepping)
