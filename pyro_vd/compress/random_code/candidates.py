"""The candidates of a block of weights: draws from the prior that the index of a candidate gives again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_vd.compress.random_code.generator import NORMALS, Floats, draw_words, to_normals

__all__ = ["MOST_BITS", "choose", "draw_candidates"]

MOST_BITS = 24  # of an index; the encoder looks at all candidates of a block
CHUNK = 2**16  # candidates in memory, at most
NUMBERS = 2**24  # of candidates in memory, at most; long blocks are looked at in smaller parts
WORD_BITS = np.uint64(16)  # lowest bits of a counter: the number of a word in its candidate


def draw_candidates(seed: int, bits: int, blocks: npt.ArrayLike, indices: npt.ArrayLike, length: int) -> Floats:
    """Standard normal numbers, (candidates, length).

    Args:
        seed: of the file.
        bits: of an index.
        blocks: number of the block of each candidate; one number if all are of the same block.
        indices: of the candidates, each below ``2**bits``.
        length: weights of a block; a candidate of a longer one begins with the same numbers.
    """
    number = np.asarray(blocks, np.uint64) << np.uint64(bits) | np.asarray(indices, np.uint64)
    words = np.arange(-(-length // NORMALS), dtype=np.uint64)
    counters = (number << WORD_BITS)[:, None] + words
    return to_normals(draw_words(seed, counters))[:, :length]


def choose(seed: int, bits: int, block: int, mean: Tensor, stddev: Tensor, scale: Tensor) -> int:
    r"""The index of a candidate, a draw from the importance weights of all :math:`K = 2^{bits}` candidates.

    Candidate k, :math:`w_k \sim p`, has the probability :math:`\propto q(w_k) / p(w_k)`. If K is well above
    :math:`\exp \mathrm{KL}(q \| p)`, it is nearly a draw from q (Havasi et al. 2019, algorithm 1; Chatterjee and
    Diaconis 2018 say how many are needed). It is drawn by adding a Gumbel variable to each log weight.

    Args:
        seed, bits, block: see :func:`draw_candidates`.
        mean, stddev: of q, shape (weights of the block,).
        scale: standard deviation of the prior, the same shape.
    """
    ratio = (scale / stddev).double()
    square, linear = 0.5 * (1 - ratio.square()), ratio * (mean / stddev).double()
    noise = np.random.default_rng((seed, block)).gumbel(size=2**bits)  # the decoder does not need it
    best, value = 0, -np.inf
    chunk = min(CHUNK, max(1, NUMBERS // len(mean)))
    for start in range(0, 2**bits, chunk):
        indices = np.arange(start, min(start + chunk, 2**bits), dtype=np.uint64)
        drawn = torch.from_numpy(draw_candidates(seed, bits, block, indices, len(mean))).double()
        scores = (drawn.square() @ square + drawn @ linear).numpy() + noise[start : start + len(indices)]
        found = int(scores.argmax())
        if scores[found] > value:
            best, value = start + found, scores[found]
    return best
