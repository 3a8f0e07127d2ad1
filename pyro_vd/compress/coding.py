"""Codings of one tensor: dense or sparse, with values in its type, in float16 if exact, or as integers on a grid.

A sparse coding has one byte per weight for the gap, the number of zeros before it (after Han et al. 2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
import torch
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["Coded", "Note", "decode", "encode", "most_bytes", "read_note", "read_step_size", "to_integers"]

SKIP = 255  # this byte skips as many zeros, and no weight follows them
INTEGERS = (torch.int8, torch.int16, torch.int32)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


class Coded(NamedTuple):
    """One tensor as it is stored.

    Attributes:
        arrays: suffix -> array.
        note: what a reader must know about the tensor, for JSON.
    """

    arrays: dict[str, Tensor]
    note: dict[str, object]

    @property
    def bytes(self) -> int:
        """Size of the arrays."""
        return sum(array.numel() * array.element_size() for array in self.arrays.values())


class Note(NamedTuple):
    """What a file says about one tensor.

    Attributes:
        shape: shape of the tensor.
        dtype: type of the tensor.
        step_size: step size of the grid, if its values are stored as integers.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    step_size: float | None


def encode(name: str, tensor: Tensor, step_size: float | None) -> Coded:
    """The shortest coding that loses nothing but the sign of a zero.

    Raises:
        UserError: for a tensor that is not on the grid of its step size, naming it.
    """
    flat = tensor.flatten()
    dense = _encode_values(name, tensor, flat, step_size)
    if not tensor.is_floating_point():
        return dense
    index = flat.nonzero().flatten()
    sparse = _encode_values(name, tensor, flat[index], step_size)
    sparse.arrays[".gaps"] = torch.from_numpy(_to_gaps(index.numpy()))
    return min(dense, sparse, key=lambda coded: coded.bytes)


def most_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Size of the largest coding of such a tensor: dense, in its own type or in 32-bit integers."""
    return math.prod(shape) * max(dtype.itemsize, INTEGERS[-1].itemsize)


def read_note(note: Mapping[str, Any]) -> Note:
    """The note of one tensor from the header of a file.

    Raises:
        ValueError, LookupError, TypeError: for anything else.
    """
    shape, step_size = note["shape"], note.get("step")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    if step_size is not None and (type(step_size) not in (int, float) or not 0 < step_size < math.inf):
        raise ValueError(f"step {step_size}")
    return Note(tuple(shape), DTYPES[note["dtype"]], step_size)


def decode(note: Note, values: Tensor, gaps: Tensor | None) -> Tensor:
    """The inverse of :func:`encode`, from the arrays ``.values`` and, if the tensor is sparse, ``.gaps``.

    Raises:
        ValueError, IndexError: for arrays that no tensor of this shape and dtype has.
    """
    count = math.prod(note.shape)
    types = INTEGERS if note.step_size is not None else (note.dtype, *[torch.float16] * note.dtype.is_floating_point)
    if values.ndim != 1 or values.dtype not in types:
        raise ValueError(f"values of shape {tuple(values.shape)} and {values.dtype}")
    index = None if gaps is None else _decode_gaps(gaps, count)
    if len(values) != (count if index is None else len(index)):
        raise ValueError(f"{len(values)} values")
    decoded = values.to(note.dtype) if note.step_size is None else values.to(note.dtype) * note.step_size
    if index is not None:
        decoded = torch.zeros(count, dtype=note.dtype).index_put_((index,), decoded)
    return decoded.reshape(note.shape)


def _decode_gaps(gaps: Tensor, count: int) -> Tensor:
    if gaps.ndim != 1 or gaps.dtype != torch.uint8 or len(gaps) > count:  # before int64 takes eight times the memory
        raise ValueError(f"gaps of shape {tuple(gaps.shape)} and {gaps.dtype}")
    return torch.from_numpy(_to_indices(gaps.numpy()))


def _encode_values(name: str, tensor: Tensor, values: Tensor, step_size: float | None) -> Coded:
    note: dict[str, object] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    if step_size is not None:
        return Coded({".values": to_integers(name, values, step_size)}, {**note, "step": step_size})
    half = values.half() if values.is_floating_point() else values
    exact = bool((half.to(values.dtype) == values).all())
    return Coded({".values": half if exact else values}, note)


def read_step_size(what: str, step_size: float) -> float:
    """A step size as Python's number.

    Raises:
        UserError: for one that is not above 0 and finite; ``what`` begins the message.
    """
    if not isinstance(step_size, SupportsFloat) or not 0 < float(step_size) < math.inf:
        raise UserError(f"{what} is {step_size!r}; it must be above 0 and finite")
    return float(step_size)


def to_integers(name: str, values: Tensor, step_size: float) -> Tensor:
    """``values / step_size`` in the smallest type that holds these integers.

    Raises:
        UserError: for values that are not on the grid of the step size, naming the tensor.
    """
    if not 0 < step_size < math.inf:
        raise UserError(f"{name!r}: the step size is {step_size}; it must be above 0 and finite")
    cells = (values / step_size).round()
    if not bool((cells * step_size == values).all()):
        raise UserError(f"{name!r} is not on the grid of step size {step_size:g}; call compress.quantize first")
    largest = cells.abs().max().item() if len(cells) else 0.0
    if largest > torch.iinfo(torch.int32).max:
        raise UserError(f"{name!r}: a step size of {step_size:g} makes integers beyond 32 bits; choose a larger one")
    return cells.to(next(dtype for dtype in INTEGERS if largest <= torch.iinfo(dtype).max))


def _to_gaps(index: np.ndarray) -> np.ndarray:
    """Numbers of zeros before each index, as bytes."""
    zeros = np.diff(index, prepend=-1) - 1
    skips = zeros // SKIP
    gaps = np.full(len(index) + int(skips.sum()), SKIP, dtype=np.uint8)
    gaps[np.arange(len(index)) + np.cumsum(skips)] = zeros % SKIP
    return gaps


def _to_indices(gaps: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_to_gaps`."""
    ends = np.cumsum(np.where(gaps == SKIP, SKIP, gaps.astype(np.int64) + 1))
    indices: np.ndarray = ends[gaps != SKIP] - 1
    return indices
