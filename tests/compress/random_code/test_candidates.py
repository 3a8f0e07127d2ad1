"""Candidates: the same in any order of drawing; the chosen one is a draw from the importance weights, and so from q."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_vd.compress.random_code import candidates
from pyro_vd.compress.random_code.candidates import choose, draw_candidates


def choose_one(seed, bits, mean, stddev, scale=1.0):
    """The weight that is chosen in a block of one weight."""
    index = choose(seed, bits, 0, torch.tensor([mean]), torch.tensor([stddev]), torch.tensor([scale]))
    return scale * draw_candidates(seed, bits, 0, [index], 1).item()


@pytest.mark.parametrize("length", [1, 4, 7])
def test_any_candidate_is_drawn_without_the_others(length):
    every = draw_candidates(5, 6, 3, np.arange(64), length)
    assert every.shape == (64, length)
    assert np.array_equal(draw_candidates(5, 6, 3, [40, 2], length), every[[40, 2]])
    assert np.array_equal(draw_candidates(5, 6, 3, np.arange(64), length + 3)[:, :length], every)
    of_two_blocks = draw_candidates(5, 6, [2, 3], [7, 40], length)
    assert np.array_equal(of_two_blocks[1], every[40])
    assert not np.isin(of_two_blocks[0], every).all()
    assert len(np.unique(draw_candidates(5, 6, np.arange(64), np.arange(64), 8).round(3))) > 300


def test_the_chosen_weight_is_a_draw_from_the_posterior():
    """KL(q || p) is 2.3 bits here: 1,024 candidates are enough, 4 are not."""
    q = stats.norm(0.8, 0.3)
    many = [choose_one(seed, 10, 0.8, 0.3) for seed in range(1500)]
    few = [choose_one(seed, 2, 0.8, 0.3) for seed in range(1500)]
    assert stats.kstest(many, q.cdf).pvalue > 0.01
    assert stats.kstest(few, q.cdf).pvalue < 1e-6


def test_a_posterior_equal_to_the_prior_chooses_evenly():
    indices = [choose(seed, 3, 1, torch.zeros(5), torch.full((5,), 0.7), torch.full((5,), 0.7)) for seed in range(800)]
    assert stats.chisquare(np.bincount(indices, minlength=8)).pvalue > 0.01


def test_the_probability_of_a_candidate_is_its_importance_weight(monkeypatch):
    drawn = np.array([[-1.0, 0.5], [0.25, 0.0], [1.0, 1.5], [2.0, -0.5]], np.float32)
    monkeypatch.setattr(candidates, "draw_candidates", lambda seed, bits, block, indices, length: drawn[indices])
    mean, stddev, scale = torch.tensor([0.5, -0.1]), torch.tensor([1.2, 0.6]), torch.tensor([2.0, 0.5])
    weights = torch.from_numpy(drawn) * scale
    q, p = torch.distributions.Normal(mean, stddev), torch.distributions.Normal(0.0, scale)
    expected = (q.log_prob(weights) - p.log_prob(weights)).sum(1).double().softmax(0).numpy()
    counts = np.bincount([choose(seed, 2, 0, mean, stddev, scale) for seed in range(4000)], minlength=4)
    assert stats.chisquare(counts, 4000 * expected).pvalue > 0.01


def test_chunks_change_nothing(monkeypatch):
    arguments = 3, 8, 2, torch.linspace(-1, 1, 6), torch.full((6,), 0.4), torch.ones(6)
    whole = choose(*arguments)
    monkeypatch.setattr(candidates, "CHUNK", 50)
    assert choose(*arguments) == whole


def test_long_blocks_take_no_more_memory_than_short_ones(monkeypatch):
    """A file of few blocks for many weights would need gigabytes for all candidates at once."""
    arguments = 3, 8, 2, torch.linspace(-1, 1, 60), torch.full((60,), 0.4), torch.ones(60)
    whole, sizes, draw = choose(*arguments), [], candidates.draw_candidates

    def note(*place):
        drawn = draw(*place)
        sizes.append(drawn.size)
        return drawn

    monkeypatch.setattr(candidates, "NUMBERS", 1000)
    monkeypatch.setattr(candidates, "draw_candidates", note)
    assert choose(*arguments) == whole
    assert max(sizes) <= 1000
    assert sum(sizes) == 2**8 * 60


def test_blocks_of_nine_tenths_of_their_bits_are_near_their_posterior():
    """Random Gaussians whose KL is 0.9 of 14 bits: (w - mean)^2 / stddev^2 is 1 on average for a draw from q."""
    generator = torch.Generator().manual_seed(0)
    squares = []
    for block in range(40):
        mean, share = torch.randn(20, generator=generator), torch.rand(20, generator=generator)
        low, high = 0.01, 1.0  # of a factor of all means and of the information in the variances
        for _ in range(40):
            factor = (low + high) / 2
            stddev = torch.exp(-2 * factor * share)
            kl = (-stddev.log() + 0.5 * (stddev**2 + (factor * mean) ** 2 - 1)).sum() / math.log(2)
            low, high = (factor, high) if kl < 0.9 * 14 else (low, factor)
        index = choose(1, 14, block, factor * mean, stddev, torch.ones(20))
        drawn = torch.from_numpy(draw_candidates(1, 14, block, [index], 20))[0]
        squares.append(((drawn - factor * mean) / stddev).square().mean())
    assert torch.stack(squares).mean() == pytest.approx(1.0, abs=0.15)
