"""A network in the channels-last format stays in it: in guides, training, copies, predictions and checkpoints."""

import copy

import pytest
import torch
from torch import nn

import pyro_vd
from pyro_vd import Categorical, Posterior, guides

FORMAT = torch.channels_last
DATA = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def make_pair(scheme="sparse"):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(36, 3))
    chosen = guides.SCHEMES[scheme]
    model = pyro_vd.lift(net.to(memory_format=FORMAT), chosen.prior, Categorical, num_data=8)
    return model, chosen.Guide(model)


def fit(pair, **how):
    options = {"epochs": 2, "batch_size": 4, "seed": 0, "engine": "eager", "progress": False}
    return pyro_vd.fit(*pair, DATA, **{**options, **how})


def is_kept(*modules):
    """Whether every convolution's weight, and every noise parameter of its shape, is channels-last only."""
    weights = [p for module in modules for p in (*module.parameters(), *module.buffers()) if p.ndim == 4]
    return bool(weights) and all(p.is_contiguous(memory_format=FORMAT) and not p.is_contiguous() for p in weights)


@pytest.mark.parametrize("scheme", sorted(guides.SCHEMES))
def test_the_guides_start_with_it(scheme):
    _, guide = make_pair(scheme)
    weights = {site: q for site, q in guide.theta.named_parameters() if q.ndim == 4}
    assert len(weights) == 2
    assert all(q.is_contiguous(memory_format=FORMAT) for q in weights.values())


def test_independent_noise_has_the_format_of_the_means():
    _, guide = make_pair()
    assert is_kept(guide)


def test_training_copies_and_predictions_keep_it(tmp_path):
    pair = make_pair()
    posterior = fit(pair, checkpoint=tmp_path / "run")
    assert is_kept(pair[1], posterior.mean(), posterior.sample(), copy.deepcopy(posterior.guide))
    resumed = fit(make_pair(), checkpoint=tmp_path / "run", epochs=3)
    assert is_kept(resumed.guide)
    posterior.save(tmp_path / "posterior")
    assert is_kept(Posterior(*make_pair()).load(tmp_path / "posterior").guide)


def test_the_compiled_engine_keeps_it(quick_compiler):
    pair = make_pair()
    assert fit(pair, engine="compiled").engine == "compiled"
    assert is_kept(pair[1])


def test_activations_have_it():
    net = fit(make_pair()).mean()
    assert net[0](DATA[0]).is_contiguous(memory_format=FORMAT)


def test_the_numbers_are_those_of_the_other_format():
    """Up to rounding: the noise is drawn in the order of the memory, so a scheme without noise is compared."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    losses = []
    for chosen in (net, copy.deepcopy(net).to(memory_format=FORMAT)):
        model = pyro_vd.lift(chosen, guides.none.prior, Categorical, num_data=8)
        losses.append(fit((model, guides.none.Guide(model))).history[-1]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
