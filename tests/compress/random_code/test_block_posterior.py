"""The posterior in blocks: KLs of torch, priors of empirical Bayes, and weights that stay once they are coded."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pyro_vd.compress.random_code.block_posterior import BlockPosterior
from pyro_vd.compress.random_code.code import decode, members, round_scale
from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import EmpiricalBayes


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    means = {"bias": 0.3 * torch.randn(5), "weight": 2 * torch.randn(5, 4)}  # 25 weights
    return means, {name: -3 + 0.5 * torch.randn_like(mean) for name, mean in means.items()}


@pytest.fixture
def state(tensors):
    return BlockPosterior(*tensors, blocks=3, bits=10, seed=3)


def of_all(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def test_kl_of_the_blocks_is_that_of_torch(tensors, state):
    means, log_sigma2 = tensors
    every = [
        kl_divergence(WeightNormal(means[name], log_sigma2=log_sigma2[name]), EmpiricalBayes("layer")).flatten()
        for name in means
    ]
    assert torch.cat(every).sum() == pytest.approx(float(state.kl().detach().sum()), rel=1e-5)
    state.fix_scales()
    fixed = [
        kl_divergence(Normal(means[name], (0.5 * log_sigma2[name]).exp()), Normal(0.0, state.scales[name])).flatten()
        for name in means
    ]
    expected = torch.stack([torch.cat(fixed)[own].sum() for own in members(3, 25, 3)])
    assert torch.allclose(state.kl(), expected, rtol=1e-5)


def test_scales_are_those_of_empirical_bayes(tensors, state):
    means, log_sigma2 = tensors
    state.fix_scales()
    for name, scale in state.scales.items():
        best = (means[name].square() + log_sigma2[name].exp()).mean().sqrt()
        assert scale == pytest.approx(float(best), rel=1 / 32)
        assert scale == round_scale(scale)  # one that a file can have


def test_draws_have_the_moments_of_the_posterior(tensors, state):
    with torch.no_grad():
        drawn = torch.stack([of_all(state.draw()) for _ in range(4000)])
    mean, stddev = of_all(tensors[0]), (0.5 * of_all(tensors[1])).exp()
    assert (((drawn.mean(0) - mean) / stddev).abs() < 4.5 / math.sqrt(4000)).all()
    assert torch.allclose(drawn.std(0), stddev, rtol=0.06)


def test_coded_blocks_stay_and_the_file_decodes_to_them(state):
    state.fix_scales()
    before = state.kl().detach()
    state.code_block()
    state.code_block()
    coded, left = torch.cat(state.members[:2]), torch.cat(state.members[2:])
    with torch.no_grad():
        first, second = of_all(state.draw()), of_all(state.draw())
    assert torch.equal(first[coded], second[coded])
    assert not (first[left] == second[left]).any()
    of_all(state.draw()).square().sum().backward()
    assert not state.mean.grad[coded].any()
    assert state.mean.grad[left].all()
    assert state.kl_when_coded == pytest.approx(before[:2].tolist())
    assert state.kl_bits == pytest.approx(float(before.sum()) / math.log(2), rel=1e-5)
    state.code_block()
    decoded = decode(state.code(), {"bias": (5,), "weight": (5, 4)})
    drawn = state.draw()
    assert list(decoded) == list(drawn)
    assert all(torch.equal(decoded[name], drawn[name]) for name in drawn)


def test_a_kl_weight_follows_its_block(state):
    before = state.log_kl_weight.clone()
    state.adapt_kl_weights(torch.tensor([10.0, 20.0, 10.2]), 10.0, 0.1)
    assert torch.allclose(state.log_kl_weight - before, torch.tensor([0.0, 0.1, 0.01]), atol=1e-6)
    kl = torch.arange(3.0)
    assert state.weighted_kl(kl) == pytest.approx(float((state.log_kl_weight.exp() * kl).sum()))


def test_types_and_memory_formats_are_those_of_the_network():
    mean = torch.randn(4, 3, 2, 2, dtype=torch.float64).to(memory_format=torch.channels_last)
    drawn = BlockPosterior({"w": mean}, {"w": torch.full_like(mean, -30)}, 3, 8, 0).draw()["w"]
    assert drawn.dtype == torch.float64
    assert drawn.stride() == mean.stride()
    assert torch.allclose(drawn, mean, atol=1e-5)
