"""RandomCode: what a file says of weights that are draws from their prior, and how it becomes weights again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pyro_vd.compress.adaptive_bits import Coder, code_natural
from pyro_vd.compress.random_code.candidates import MOST_BITS, draw_candidates
from pyro_vd.compress.random_code.generator import permutation

__all__ = ["RandomCode", "code_random", "decode", "members", "round_scale"]

SCALE_BITS = 12
OCTAVE = 16  # levels of a scale from a power of two to the next one
LOWEST: int = -(2 ** (SCALE_BITS - 1))


@dataclass(frozen=True)
class RandomCode:
    """The random code of some tensors of a network.

    Attributes:
        seed: of the generator.
        bits: of an index.
        scales: tensor -> standard deviation of the prior of its weights, in the order in which they are numbered.
        indices: of the chosen candidate, for each block.
    """

    seed: int = 0
    bits: int = 0
    scales: Mapping[str, float] = field(default_factory=dict)
    indices: tuple[int, ...] = ()


def members(seed: int, total: int, blocks: int) -> list[Tensor]:
    """The numbers of the weights of each block: those at every ``blocks``-th place of a random order."""
    order = torch.from_numpy(permutation(seed, total))
    return [order[block::blocks] for block in range(blocks)]


def round_scale(scale: float) -> float:
    """The nearest standard deviation that a file can have, at most 3 % away."""
    return _from_level(_to_level(scale))


def decode(code: RandomCode, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The weights, float32, by name.

    Args:
        shapes: of the tensors of ``code.scales``.
    """
    sizes = [math.prod(shapes[name]) for name in code.scales]
    blocks = len(code.indices)
    length = -(-sum(sizes) // max(1, blocks))
    drawn = draw_candidates(code.seed, code.bits, np.arange(blocks), code.indices, length)
    order = torch.from_numpy(permutation(code.seed, sum(sizes)))
    flat = torch.zeros(sum(sizes))
    flat[order] = torch.from_numpy(drawn.T.flatten())[: sum(sizes)]  # the k-th weight of all blocks, then the next
    parts = zip(code.scales.items(), flat.split(sizes), strict=True)
    return {name: (scale * part).reshape(shapes[name]) for (name, scale), part in parts}


def code_random(coder: Coder, shapes: Mapping[str, tuple[int, ...]], code: RandomCode) -> RandomCode:
    """Codes a random code, and returns it.

    Args:
        shapes: of all tensors of the network, in the order of the file.
        code: to write; to read, any.

    Raises:
        ValueError: to read, for what is no random code of tensors of these shapes.
    """
    scales = {}
    for name in shapes:
        if coder.bit(int(name in code.scales), "random"):
            level = _code_bits(coder, _to_level(code.scales.get(name, 1.0)) - LOWEST, SCALE_BITS)
            scales[name] = _from_level(level + LOWEST)
    seed, bits = code_natural(coder, code.seed, "seed"), code_natural(coder, code.bits, "bits")
    blocks = code_natural(coder, len(code.indices), "blocks")
    total = sum(math.prod(shapes[name]) for name in scales)
    if bits > MOST_BITS or blocks > total or (total and not blocks):
        raise ValueError(f"{blocks} blocks of {bits} bits for {total} weights")
    indices = [_code_bits(coder, code.indices[block] if code.indices else 0, bits) for block in range(blocks)]
    return RandomCode(seed, bits, scales, tuple(indices))


def _code_bits(coder: Coder, number: int, bits: int) -> int:
    """Codes a number of so many bits, all of them equally likely, and returns it."""
    read = 0
    for place in reversed(range(bits)):
        read = 2 * read + coder.bit(number >> place & 1)
    return read


def _to_level(scale: float) -> int:
    mantissa, exponent = math.frexp(scale)
    level: int = OCTAVE * exponent + round(2 * OCTAVE * mantissa) - OCTAVE
    return min(max(level, LOWEST), -LOWEST - 1)


def _from_level(level: int) -> float:
    exponent, step = divmod(level, OCTAVE)
    return math.ldexp((OCTAVE + step) / (2 * OCTAVE), exponent)
