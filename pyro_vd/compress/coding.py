"""Codings of one tensor: zeros skipped by gaps; values in float32, float16 where that is exact, or integers of a grid.

Gaps are one byte a weight: how many zeros come before it (Han et al. 2016 code them so).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Coded", "Note", "decode", "encode", "most_bytes", "read_note"]

SKIP = 255  # a byte that skips as many zeros and has no weight behind them
INTEGERS = (torch.int8, torch.int16, torch.int32)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


class Coded(NamedTuple):
    """One tensor as it is stored: arrays by suffix, and what a reader has to know."""

    arrays: dict[str, Tensor]
    note: dict[str, object]

    @property
    def bytes(self) -> int:
        return sum(array.numel() * array.element_size() for array in self.arrays.values())


class Note(NamedTuple):
    """What a file says of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    step: float | None


def encode(name: str, tensor: Tensor, step: float | None) -> Coded:
    """The shortest coding that loses nothing but the sign of a zero.

    Raises:
        ValueError: for a tensor that is not on the grid of its step, naming it.
    """
    flat = tensor.flatten()
    dense = _coded(name, tensor, flat, step)
    if not tensor.is_floating_point():
        return dense
    index = flat.nonzero().flatten()
    sparse = _coded(name, tensor, flat[index], step)
    sparse.arrays[".gaps"] = torch.from_numpy(_gaps(index.numpy()))
    return min(dense, sparse, key=lambda coded: coded.bytes)


def most_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """The largest number of bytes that a coding of such a tensor has: dense, in its own type or in 32-bit integers."""
    return math.prod(shape) * max(dtype.itemsize, INTEGERS[-1].itemsize)


def read_note(note: Mapping) -> Note:
    """The note of a file's header.

    Raises:
        ValueError, LookupError, TypeError: for anything else.
    """
    shape, step = note["shape"], note.get("step")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    if step is not None and (type(step) not in (int, float) or not 0 < step < math.inf):
        raise ValueError(f"step {step}")
    return Note(tuple(shape), DTYPES[note["dtype"]], step)


def decode(note: Note, values: Tensor, gaps: Tensor | None) -> Tensor:
    """The inverse of :func:`encode`, given the arrays ``.values`` and, if the tensor is sparse, ``.gaps``.

    Raises:
        ValueError, IndexError: for arrays that no tensor of this shape and dtype has.
    """
    count = math.prod(note.shape)
    types = INTEGERS if note.step is not None else (note.dtype, *[torch.float16] * note.dtype.is_floating_point)
    if values.ndim != 1 or values.dtype not in types:
        raise ValueError(f"values of shape {tuple(values.shape)} and {values.dtype}")
    index = None if gaps is None else _index_of(gaps, count)
    if len(values) != (count if index is None else len(index)):
        raise ValueError(f"{len(values)} values")
    decoded = values.to(note.dtype) if note.step is None else values.to(note.dtype) * note.step
    if index is not None:
        decoded = torch.zeros(count, dtype=note.dtype).index_put_((index,), decoded)
    return decoded.reshape(note.shape)


def _index_of(gaps: Tensor, count: int) -> Tensor:
    if gaps.ndim != 1 or gaps.dtype != torch.uint8 or len(gaps) > count:  # before int64 takes eight times as much
        raise ValueError(f"gaps of shape {tuple(gaps.shape)} and {gaps.dtype}")
    return torch.from_numpy(_indices(gaps.numpy()))


def _coded(name: str, tensor: Tensor, values: Tensor, step: float | None) -> Coded:
    note: dict[str, object] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    if step is not None:
        return Coded({".values": _integers(name, values, step)}, {**note, "step": step})
    half = values.half() if values.is_floating_point() else values
    exact = bool((half.to(values.dtype) == values).all())
    return Coded({".values": half if exact else values}, note)


def _integers(name: str, values: Tensor, step: float) -> Tensor:
    if not 0 < step < math.inf:
        raise ValueError(f"{name!r}: the step is {step}; it must be above 0 and finite")
    cells = (values / step).round()
    if not bool((cells * step == values).all()):
        raise ValueError(f"{name!r} is not on the grid of step {step:g}; compress.quantize puts it there")
    largest = cells.abs().max().item() if len(cells) else 0.0
    if largest > torch.iinfo(torch.int32).max:
        raise ValueError(f"{name!r}: a step of {step:g} makes integers beyond 32 bits; a wider one is meant")
    return cells.to(next(dtype for dtype in INTEGERS if largest <= torch.iinfo(dtype).max))


def _gaps(index: np.ndarray) -> np.ndarray:
    """Zeros before each index as bytes."""
    zeros = np.diff(index, prepend=-1) - 1
    skips = zeros // SKIP
    gaps = np.full(len(index) + int(skips.sum()), SKIP, dtype=np.uint8)
    gaps[np.arange(len(index)) + np.cumsum(skips)] = zeros % SKIP
    return gaps


def _indices(gaps: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_gaps`."""
    ends = np.cumsum(np.where(gaps == SKIP, SKIP, gaps.astype(np.int64) + 1))
    return ends[gaps != SKIP] - 1
