"""How a compact file codes the values that are left: integers on a grid, or the bytes of numbers of any kind."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from pyro_vd.compress.adaptive_bits import Coder, code_natural, code_signed

__all__ = ["code_bytes", "code_cells", "code_step"]

BITS = 8


def code_cells(coder: Coder, cells: Sequence[int], name: Hashable) -> list[int]:
    """Codes integers that are not 0, and returns them: a sign, and a histogram of sizes that is learned."""
    return [_code_cell(coder, cell, name) for cell in cells]


def _code_cell(coder: Coder, cell: int, name: Hashable) -> int:
    is_negative = coder.bit(int(cell < 0), (name, "sign"))
    size = code_natural(coder, max(abs(cell) - 1, 0), "size", (name, "size")) + 1
    return -size if is_negative else size


def code_bytes(coder: Coder, rows: Sequence[Sequence[int]], name: Hashable) -> list[list[int]]:
    """Codes rows of bytes, and returns them; each column has a histogram that is learned."""
    return [[_code_byte(coder, byte, (name, column)) for column, byte in enumerate(row)] for row in rows]


def _code_byte(coder: Coder, byte: int, name: Hashable) -> int:
    node = 1
    for place in reversed(range(BITS)):
        node = 2 * node + coder.bit(byte >> place & 1, (name, node))
    return node - (1 << BITS)


def code_step(coder: Coder, step: float) -> float:
    """Codes a step size as an odd number times a power of two, and returns it: round numbers take few bits.

    Raises:
        ValueError: if reading finds one that is not above 0 and finite.
    """
    above, below = step.as_integer_ratio()
    zeros = (above & -above).bit_length() - 1 if above else 0
    odd = 2 * code_natural(coder, (above >> zeros) // 2, "odd factor") + 1
    power = code_signed(coder, zeros - below.bit_length() + 1, "power of two")
    try:
        coded = math.ldexp(odd, power)
    except OverflowError:
        coded = math.inf
    if not 0 < coded < math.inf:
        raise ValueError(f"a step size of {odd} * 2**{power}")
    return coded
