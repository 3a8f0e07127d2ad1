"""How a compact file codes one tensor: which values are not 0, then these, on a grid or byte by byte."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_vd.compress.adaptive_bits import Coder, code_natural
from pyro_vd.compress.coding import INTEGERS, to_integers
from pyro_vd.compress.mask_model import Mask, code_indices, code_mask, find_period
from pyro_vd.compress.value_model import code_bytes, code_cells, code_step

__all__ = ["code_tensor", "column_positions", "to_bytes"]

GRID, BYTES, INDICES = range(3)
WHOLE = (*INTEGERS, torch.int64, torch.uint8)
DENSEST = 64  # the largest of n indices is below 64 n


def code_tensor(coder: Coder, name: str, tensor: Tensor, step: float | None, positions: Sequence[int]) -> Tensor:
    """Codes a tensor, and returns it without the signs of zeros.

    Args:
        name: of its contexts.
        tensor: on the host; to read, zeros of its shape and type.
        step: of its grid; to read, None.
        positions: of its columns in an image, for a tensor of two axes, see :func:`column_positions`.

    Raises:
        UserError: to write, for a tensor that is not on the grid.
        ValueError, LookupError, OverflowError: to read, for what no tensor of this shape and type has.
    """
    kind = code_natural(coder, _choose_kind(name, tensor, step), "kind")
    if kind == INDICES and tensor.dtype == torch.int64 and tensor.ndim == 1:
        indices = code_indices(coder, tensor.tolist(), name, DENSEST * len(tensor))
        if len(indices) != len(tensor):
            raise ValueError(f"{name}: {len(indices)} indices")
        return torch.tensor(indices, dtype=tensor.dtype)
    if kind == GRID and (tensor.is_floating_point() or tensor.dtype in WHOLE):
        return _code_grid(coder, name, tensor, step, positions)
    if kind == BYTES:
        return _code_bytes(coder, name, tensor, positions)
    raise ValueError(f"{name} as kind {kind}")


def column_positions(tensor: Tensor, selected: Tensor | None) -> Sequence[int]:
    """Where the columns of a weight are in the image that it reads: at the inputs that the layer selects."""
    count = tensor.shape[1] if tensor.ndim == 2 else 0
    return (
        selected.tolist()
        if selected is not None and len(selected) == count and _are_indices(selected)
        else range(count)
    )


def to_bytes(tensor: Tensor) -> npt.NDArray[np.uint8]:
    """A view of the memory of a contiguous tensor, (entries, bytes of an entry)."""
    return tensor.view(-1).view(torch.uint8).numpy().reshape(tensor.numel(), tensor.itemsize)


def _choose_kind(name: str, tensor: Tensor, step: float | None) -> int:
    if name.rpartition(".")[2] == "selected" and _are_indices(tensor):
        return INDICES
    return GRID if step is not None or tensor.dtype in WHOLE else BYTES


def _are_indices(tensor: Tensor) -> bool:
    """Whether it holds ascending integers that are not much larger than they are many."""
    if tensor.dtype != torch.int64 or tensor.ndim != 1:
        return False
    in_range = bool(((tensor >= 0) & (tensor < DENSEST * len(tensor))).all())
    return in_range and bool((tensor.diff() > 0).all())


def _code_grid(coder: Coder, name: str, tensor: Tensor, step: float | None, positions: Sequence[int]) -> Tensor:
    if not tensor.is_floating_point():
        return torch.from_numpy(_code_integers(coder, name, tensor.numpy(), positions))
    cells = tensor if step is None else to_integers(name, tensor.flatten(), step).reshape(tensor.shape)
    step = code_step(coder, 1.0 if step is None else step)
    integers = _code_integers(coder, name, cells.to(torch.int32).numpy(), positions)
    return torch.from_numpy(integers).to(tensor.dtype) * step


def _code_integers(
    coder: Coder, name: str, cells: npt.NDArray[np.integer], positions: Sequence[int]
) -> npt.NDArray[np.integer]:
    mask = _code_mask(coder, cells != 0, name, positions)
    coded = np.zeros_like(cells)
    coded[mask] = np.array(code_cells(coder, cells[mask].tolist(), name), cells.dtype)
    return coded


def _code_bytes(coder: Coder, name: str, tensor: Tensor, positions: Sequence[int]) -> Tensor:
    mask = _code_mask(coder, (tensor != 0).numpy(), name, positions).flatten()
    values = code_bytes(coder, to_bytes(tensor)[mask].tolist(), name)
    coded = torch.zeros_like(tensor)
    to_bytes(coded)[mask] = np.array(values, np.uint8).reshape(-1, tensor.itemsize)  # a view of its memory
    return coded


def _code_mask(coder: Coder, mask: Mask, name: str, positions: Sequence[int]) -> Mask:
    """Codes the mask of a tensor of any number of axes: the rows of a convolution are its kernels."""
    if mask.ndim == 2:
        period = code_natural(coder, _period_of_columns(mask, positions), (name, "period"))
        return code_mask(coder, mask, name, positions, period, 1)
    rows = math.prod(mask.shape[:2]) if mask.ndim > 2 else 1
    matrix = mask.reshape(rows, math.prod(mask.shape) // max(rows, 1))
    period, width = (mask.shape[-1], mask.shape[1]) if mask.ndim > 2 else (1, 1)
    return code_mask(coder, matrix, name, range(matrix.shape[1]), period, width).reshape(mask.shape)


def _period_of_columns(mask: Mask, positions: Sequence[int]) -> int:
    """The period of the columns that are left, in the image that they are from."""
    flags = np.zeros(positions[-1] + 1 if positions else 0, bool)
    flags[np.array(positions, int)[mask.any(0)]] = True
    return find_period(flags)
