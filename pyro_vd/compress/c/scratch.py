"""Places the intermediate results of a network in one block of memory, those that live at the same time apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Use", "place"]


@dataclass(frozen=True)
class Use:
    """One intermediate result.

    Attributes:
        size: its number of floats.
        first: the step that writes it.
        last: the last step that reads it.
        over: the result whose place it may take, because its step reads and writes one element after the other.
    """

    size: int
    first: int
    last: int
    over: str | None = None


def place(uses: dict[str, Use]) -> tuple[dict[str, int], int]:
    """Result -> where it begins in the block, and the size of the block, in floats.

    Args:
        uses: the results in the order in which they are written.

    Example:
        >>> place({"a": Use(5, 0, 1), "b": Use(3, 1, 2), "c": Use(4, 2, 3)})
        ({'a': 0, 'b': 5, 'c': 0}, 8)
    """
    starts: dict[str, int] = {}
    for name, use in uses.items():
        over = use.over if use.over in starts else None
        if over is not None and uses[over].last == use.first and uses[over].size == use.size:
            starts[name] = starts[over]
        else:
            alive = [(starts[other], uses[other].size) for other in starts if uses[other].last >= use.first]
            starts[name] = _first_gap(sorted(alive), use.size)
    return starts, max((starts[name] + use.size for name, use in uses.items()), default=0)


def _first_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The lowest start at which ``size`` floats are free; ``taken`` holds starts and sizes in order."""
    start = 0
    for other, length in taken:
        if start + size <= other:
            break
        start = max(start, other + length)
    return start
