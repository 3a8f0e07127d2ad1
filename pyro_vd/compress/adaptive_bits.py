"""Adaptive binary arithmetic coding: every number of a compact file is a sequence of bits, each in a context.

A context counts the zeros and ones that it has seen, and so learns the probability of the next bit. A bit may have
several contexts, from general to particular: the probability of one is the prior of the next (interpolated as in MacKay
and Peto 1995, "A hierarchical Dirichlet language model"). The coder is the range coder of ``constriction``; arithmetic
coding with adaptive models is that of Witten, Neal and Cleary 1987, and binary contexts for the weights of networks
are those of DeepCABAC (Wiedemann et al. 2020).

Writer and reader have the same method ``bit``, which returns the bit. One function describes a part of the file for
both: the reader ignores the bit that it is given. Counts and probabilities are integers, so a file does not depend on
the machine, on a version of torch, or on the number of threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable
from typing import Any, Protocol

import numpy as np

from pyro_vd.errors import UserError

__all__ = ["BitReader", "BitWriter", "Coder", "code_natural", "code_signed"]

ONE = 2**16  # a probability of 1
PRIOR = 4  # observations that the probability of the context before counts for
LONGEST = 64  # bits of a number
NODES = 64  # of the tree of a number's bits; bits below them have a context for each place, so contexts are few
WORD = 4  # bytes


class Coder(Protocol):
    """Writes or reads bits."""

    def bit(self, bit: int, *contexts: Hashable) -> int:
        """Codes one bit in contexts from general to particular, and returns it."""


class _Contexts:
    """Counts of the zeros and ones in every context."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, list[int]] = {}

    def _find(self, contexts: tuple[Hashable, ...]) -> tuple[int, list[list[int]]]:
        """The probability of a one in units of 1 / ``ONE``, and the counts of the contexts."""
        found = [self._counts.setdefault(context, [0, 0]) for context in contexts]
        probability, weight = ONE // 2, 1
        for zeros, ones in found:
            probability = (ones * ONE + weight * probability) // (zeros + ones + weight)
            weight = PRIOR
        return min(max(probability, 1), ONE - 1), found


class BitWriter(_Contexts):
    """Writes bits."""

    def __init__(self) -> None:
        super().__init__()
        self._bits: list[int] = []
        self._probabilities: list[int] = []

    def bit(self, bit: int, *contexts: Hashable) -> int:
        probability, found = self._find(contexts)
        for counts in found:
            counts[bit] += 1
        self._bits.append(bit)
        self._probabilities.append(probability)
        return bit

    @property
    def entropy(self) -> float:
        """Bits that the probabilities give to what was written: no coder with these models needs less."""
        coded = zip(self._bits, self._probabilities, strict=True)
        return sum(math.log2(ONE / (probability if bit else ONE - probability)) for bit, probability in coded)

    def finish(self) -> bytes:
        """The code; zeros at its end are left out."""
        coding = _import_constriction()
        encoder = coding.stream.queue.RangeEncoder()
        family = coding.stream.model.Bernoulli(perfect=False)
        encoder.encode(np.array(self._bits, np.int32), family, np.array(self._probabilities) / ONE)
        code: bytes = encoder.get_compressed().astype("<u4").tobytes()
        return code.rstrip(b"\0")


class BitReader(_Contexts):
    """Reads the bits of a :class:`BitWriter`. Of any other code it reads some bits, or raises AssertionError."""

    def __init__(self, code: bytes) -> None:
        super().__init__()
        words = np.frombuffer(code + bytes(-len(code) % WORD), "<u4").astype(np.uint32)
        self._decoder = _import_constriction().stream.queue.RangeDecoder(words)

    def bit(self, bit: int, *contexts: Hashable) -> int:
        probability, found = self._find(contexts)
        read = int(self._decoder.decode(_model(probability)))
        for counts in found:
            counts[read] += 1
        return read


def code_natural(coder: Coder, number: int, *names: Hashable) -> int:
    """Codes a number that is at least 0, and returns it: the length of ``number + 1`` in bits, then the bits as a tree.

    Raises:
        ValueError: for a number that is too long to be one that was written.
    """
    written, length = number + 1, 0
    while coder.bit(int(written.bit_length() - 1 > length), *((name, length) for name in names)):
        length += 1
        if length > LONGEST:
            raise ValueError("a number of more than 64 bits")
    read = 1
    for place in reversed(range(length)):
        node = read if read < NODES else -place
        read = 2 * read + coder.bit(written >> place & 1, *((name, length, node) for name in names))
    return read - 1


def code_signed(coder: Coder, number: int, *names: Hashable) -> int:
    """Codes an integer, as the natural number of its place in 0, -1, 1, -2, 2, ..., and returns it."""
    read = code_natural(coder, 2 * number if number >= 0 else -2 * number - 1, *names)
    return -(read + 1) // 2 if read % 2 else read // 2


@functools.cache
def _model(probability: int) -> Any:
    return _import_constriction().stream.model.Bernoulli(probability / ONE, perfect=False)


@functools.cache
def _import_constriction() -> Any:
    try:
        import constriction
    except ImportError:
        raise UserError("compact files need constriction; install pyro-vd[coding]") from None
    return constriction
