"""The generator: known values, the normal distribution, and the same numbers on every machine."""

import zlib
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from pyro_vd.compress.random_code.generator import (
    LEVELS,
    NORMALS,
    STEPS,
    _quantiles,
    draw_words,
    permutation,
    to_normals,
)


def counters(number):
    return np.arange(number, dtype=np.uint64)


def test_words_are_those_of_splitmix64():
    """Numbers of the authors' C program for the seed 1234567, as other implementations test them."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert draw_words(1234567, counters(5)).tolist() == known
    assert draw_words(1234567, counters(5)[3:]).tolist() == known[3:]


def test_a_word_gives_four_normals_the_lowest_bits_first():
    word = np.array([[0x0001_8000_FFFF_0000]], np.uint64)
    levels = [0, LEVELS - 1, LEVELS // 2, 1]
    expected = [NormalDist().inv_cdf((level + 0.5) / LEVELS) for level in levels]
    assert to_normals(word)[0] == pytest.approx(expected, abs=0.5 / STEPS)
    assert to_normals(np.zeros((2, 3, 5), np.uint64)).shape == (2, 3, 5 * NORMALS)


def test_no_quantile_depends_on_the_last_bits_of_a_logarithm():
    cells = STEPS * np.array([NormalDist().inv_cdf((level + 0.5) / LEVELS) for level in range(LEVELS)])
    assert np.abs(cells % 1 - 0.5).min() > 1e-6  # from the middle between two multiples; rounding is about 1e-11
    assert zlib.crc32((_quantiles() * STEPS).astype("<i4").tobytes()) == 747931841


def test_normals_are_normal_and_uncorrelated():
    drawn = to_normals(draw_words(3, counters(50_000)))
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.std() == pytest.approx(1, abs=0.01)
    for lag in (1, 2, 3, 4, 16):
        assert np.corrcoef(drawn[lag:], drawn[:-lag])[0, 1] == pytest.approx(0, abs=0.01)
    other = to_normals(draw_words(4, counters(50_000)))
    assert np.corrcoef(drawn, other)[0, 1] == pytest.approx(0, abs=0.01)


def test_a_permutation_follows_from_its_seed():
    order = permutation(0, 1000)
    assert sorted(order) == list(range(1000))
    assert stats.spearmanr(order, range(1000)).pvalue > 0.01
    assert order[:5].tolist() == [327, 868, 130, 494, 983]
    assert order.tolist() != permutation(1, 1000).tolist()
