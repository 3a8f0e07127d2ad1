"""Masks: every mask comes back; what died is nearly free, and lines of an image are found."""

import math
import random

import numpy as np
import pytest

from pyro_vd.compress.adaptive_bits import BitReader, BitWriter
from pyro_vd.compress.mask_model import Neighbors, code_flags, code_indices, code_mask, find_period


def random_mask(seed, rows, columns, share):
    return np.random.default_rng(seed).random((rows, columns)) < share


def bits_of(mask, positions=None, period=1, width=1):
    coder = BitWriter()
    code_mask(coder, mask, "w", positions or range(mask.shape[1]), period, width)
    return coder.entropy


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (12, 20), (0, 4), (4, 0)])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize(("period", "width"), [(1, 1), (2, 3), (5, 4)])
def test_every_mask_comes_back(shape, share, period, width):
    mask = random_mask(0, *shape, share)
    coder = BitWriter()
    assert np.array_equal(code_mask(coder, mask, "w", range(shape[1]), period, width), mask)
    reader = BitReader(coder.finish())
    assert np.array_equal(code_mask(reader, np.zeros_like(mask), "w", range(shape[1]), period, width), mask)


def test_neighbors_are_before_and_around():
    """Of position 12 in lines of 5: 11 and 7 are near; 10, 8, 6, 9, 5, 3, 2 and 1 are a little further away."""
    neighbors = Neighbors(range(13), 5)
    assert sorted(neighbors.near[12]) == [7, 11]
    assert sorted(neighbors.far[12]) == [1, 2, 3, 5, 6, 8, 9, 10]
    assert neighbors.near[0] == neighbors.far[0] == []
    sparse = Neighbors([3, 7, 11, 12], 5)
    assert sorted(sparse.near[3]) == [1, 2]
    assert sparse.near[1] == []
    assert sorted(Neighbors(range(6)).near[5] + Neighbors(range(6)).far[5]) == [2, 3, 4]


def test_rows_and_columns_that_died_cost_nearly_nothing():
    mask = np.zeros((200, 300), bool)
    live = random_mask(1, 10, 20, 0.3)
    mask[:10, :20] = live
    assert bits_of(mask) < bits_of(live) + 50  # of 470 rows and columns


def test_independent_entries_cost_their_entropy():
    mask = random_mask(2, 100, 100, 0.1)
    entropy = -0.1 * math.log2(0.1) - 0.9 * math.log2(0.9)
    assert bits_of(mask) < 1.03 * 10_000 * entropy


def test_an_image_costs_less_with_its_period():
    lines = np.zeros((40, 28, 28), bool)
    draw = np.random.default_rng(3)
    for line in lines:
        row, column = draw.integers(0, 22, 2)
        line[row : row + 6, column : column + 6] = True
    mask = lines.reshape(40, 784)
    assert bits_of(mask, period=28) < 0.6 * bits_of(mask)


def test_positions_of_columns_that_are_left_keep_their_lines():
    mask = random_mask(4, 5, 784, 0.1)
    kept = [index for index in range(784) if index % 3]
    coder = BitWriter()
    code_mask(coder, mask[:, kept], "w", kept, 28, 1)
    reader = BitReader(coder.finish())
    read = code_mask(reader, np.zeros((5, len(kept)), bool), "w", kept, 28, 1)
    assert np.array_equal(read, mask[:, kept])


@pytest.mark.parametrize("indices", [[], [0], [5], list(range(9)), [1, 2, 40, 63]])
def test_indices_come_back(indices):
    coder = BitWriter()
    assert code_indices(coder, indices, "s", 64) == indices
    assert code_indices(BitReader(coder.finish()), [0] * len(indices), "s", 64) == indices


def test_indices_beyond_the_inputs_are_refused_before_there_is_room_for_them():
    coder = BitWriter()
    code_indices(coder, [3, 1000], "s", 1001)
    with pytest.raises(ValueError, match="an index of 1000"):
        code_indices(BitReader(coder.finish()), [0, 0], "s", 1000)


def test_the_period_is_that_of_the_lines():
    draw = random.Random(0)  # noqa: S311
    line = [draw.random() < 0.5 for _ in range(16)]
    assert find_period(np.array(line * 12)) in (16, 32, 48, 64)
    assert find_period(np.array(line * 12)) == 16
    assert (
        find_period(np.ones(100, bool)) == find_period(np.zeros(0, bool)) == find_period(np.array([True, False])) == 1
    )


def test_flags_are_those_that_were_given():
    neighbors = Neighbors(range(5))
    assert code_flags(BitWriter(), np.array([True, False, True, True, False]), "f", neighbors) == [1, 0, 1, 1, 0]
