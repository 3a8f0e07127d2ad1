"""How a compact file codes which weights are left: bits whose contexts are the bits of their neighbors.

A weight is a matrix of rows and columns; the rows of a convolution are its kernels. Rows and columns in which nothing
is left are named first, so a unit that died costs one bit at most.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pyro_vd.compress.adaptive_bits import Coder, code_natural

__all__ = ["Mask", "Neighbors", "code_flags", "code_indices", "code_mask", "find_period"]

Mask = npt.NDArray[np.bool_]
LONGEST_PERIOD = 64
MOST_FAR = 3  # neighbors at a distance that are told apart


class Neighbors:
    """By entry, the entries before it that are near to it, and those that are a little further away.

    Args:
        positions: of the entries, ascending.
        period: length of a line if the positions are those of an image, line by line; 1 if they are not.
    """

    def __init__(self, positions: Sequence[int], period: int = 1):
        at = {position: index for index, position in enumerate(positions)}
        around = {line * period + shift for line in (1, 2) for shift in (-1, 1)}
        lines = around | {2, period - 2, period + 2, 2 * period}
        near, far = ({1, period}, lines) if period > 1 else ({1}, {2, 3})
        far = {back for back in far - near if back > 0}
        self.near = [[at[place - back] for back in near if place - back in at] for place in positions]
        self.far = [[at[place - back] for back in far if place - back in at] for place in positions]


def code_flags(coder: Coder, flags: Iterable[int], name: Hashable, neighbors: Neighbors) -> list[int]:
    """Codes a bit for each entry, and returns them."""
    coded = [int(flag) for flag in flags]
    for index, (near, far) in enumerate(zip(neighbors.near, neighbors.far, strict=True)):
        ones = sum(coded[other] for other in near)
        more = min(sum(coded[other] for other in far), MOST_FAR)
        coded[index] = coder.bit(coded[index], name, (name, ones), (name, ones, more))
    return coded


def code_mask(coder: Coder, mask: Mask, name: Hashable, positions: Sequence[int], period: int, width: int) -> Mask:
    """Codes a matrix of bools, and returns it.

    Args:
        mask: (rows, columns).
        positions: of the columns, ascending.
        period: of the columns.
        width: period of the rows.
    """
    if len(mask) == 1:
        return np.array([code_flags(coder, mask[0], name, Neighbors(positions, period))], bool)
    rows = code_flags(coder, [int(row.any()) for row in mask], (name, "rows"), Neighbors(range(len(mask)), width))
    flags = code_flags(coder, [int(column.any()) for column in mask.T], (name, "columns"), Neighbors(positions, period))
    columns = np.flatnonzero(flags).tolist()
    neighbors = Neighbors([positions[column] for column in columns], period)
    coded = np.zeros_like(mask)
    for row in np.flatnonzero(rows):
        coded[row, columns] = code_flags(coder, mask[row, columns], name, neighbors)
    return coded


def code_indices(coder: Coder, indices: Sequence[int], name: Hashable, most: int) -> list[int]:
    """Codes ascending integers, each at least 0, as the flags of an image, and returns them.

    Raises:
        ValueError: if reading finds that they may reach ``most``.
    """
    length = code_natural(coder, indices[-1] + 1 if indices else 0, (name, "length"))
    if length > most:
        raise ValueError(f"an index of {length - 1}")
    flags = np.zeros(length, bool)
    flags[list(indices)] = True
    period = code_natural(coder, find_period(flags), (name, "period"))
    return np.flatnonzero(code_flags(coder, flags, name, Neighbors(range(length), period))).tolist()


def find_period(flags: Mask) -> int:
    """The distance from 2 to 64 at which flags are most often equal; 1 if they are too few or all equal."""
    periods = range(2, min(LONGEST_PERIOD, len(flags) // 2) + 1)
    if not periods or flags.all() or not flags.any():
        return 1
    return max(periods, key=lambda period: float((flags[period:] == flags[:-period]).mean()))
