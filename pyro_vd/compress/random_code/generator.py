"""Random numbers that follow from a seed and a place: any of them is computed without those before it.

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") maps a counter to 64 bits by
integer arithmetic modulo 2**64, which is the same on every machine. A normal number is the quantile of 16 of these
bits, a multiple of 1 / 4096. The logarithm in its formula may differ between machines, in the last of 53 bits. No
quantile is so near to the middle between two multiples that this could change it; a test measures how near.
"""

from __future__ import annotations

import functools
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["HALF", "NORMALS", "draw_words", "permutation", "to_normals"]

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # the odd number next to 2**64 divided by the golden ratio
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFTS = np.uint64(30), np.uint64(27)
LAST_SHIFT = np.uint64(31)
LEVELS = 2**16  # quantiles
STEPS = 4096  # of a quantile in a standard deviation
NORMALS = 4  # numbers of a word
HALF = 2**63  # counters from here on are those of the order of the weights


def draw_words(seed: int, counters: Words) -> Words:
    """The words of 64 bits at these places of the seed's sequence, of the shape of ``counters``."""
    word = np.uint64(seed) + (counters + np.uint64(1)) * GAMMA
    for shift, factor in zip(SHIFTS, FACTORS, strict=True):
        word = (word ^ (word >> shift)) * factor
    return word ^ (word >> LAST_SHIFT)


def to_normals(words: Words) -> Floats:
    """The normal numbers of words of shape (..., n): shape (..., 4 n). The lowest bits of a word come first."""
    levels: npt.NDArray[np.uint16] = words.astype("<u8").view("<u2")
    return _quantiles()[levels]


def permutation(seed: int, length: int) -> npt.NDArray[np.int64]:
    """The numbers from 0 to ``length - 1`` in an order that follows from the seed."""
    keys = draw_words(seed, np.arange(length, dtype=np.uint64) + np.uint64(HALF))
    return np.argsort(keys, kind="stable")


@functools.cache
def _quantiles() -> Floats:
    upper = [NormalDist().inv_cdf((level + 0.5) / LEVELS) for level in range(LEVELS // 2, LEVELS)]
    rounded = np.round(np.array(upper) * STEPS) / STEPS
    return np.concatenate([-rounded[::-1], rounded]).astype(np.float32)
