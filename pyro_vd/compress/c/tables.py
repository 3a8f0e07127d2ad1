"""A weight matrix as bytes: for each output, the gaps between the inputs that it reads, and its weights.

A gap is one byte. The first gap of a row counts from input 0, each other one from the input before. A row ends with
``END``. A gap that is longer than ``LONGEST`` is split by weights that are 0. If a row takes fewer bytes with all its
weights, zeros included, it is stored so: in place of the gaps it has the one byte ``DENSE``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["DENSE", "END", "LONGEST", "SparseTable", "code_rows"]

LONGEST, DENSE, END = 253, 254, 255


@dataclass(frozen=True)
class SparseTable:
    """The bytes of a matrix.

    Attributes:
        gaps: the gaps of all rows, each row with its end.
        values: the stored weights of all rows.
    """

    gaps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def code_rows(matrix: Tensor, value_bytes: int) -> SparseTable:
    """The table of a matrix, (outputs, inputs).

    Args:
        value_bytes: bytes of a weight, from which follows whether a row is stored with its zeros.

    Example:
        >>> code_rows(torch.tensor([[0, 0, 5.0, 0, 6.0], [7.0, 8.0, 9.0, 7.0, 0]]), 4)
        SparseTable(gaps=[2, 2, 255, 254], values=[5.0, 6.0, 7.0, 8.0, 9.0, 7.0, 0.0])
    """
    table = SparseTable()
    for row in matrix:
        gaps, values = _code_row(row)
        if 1 + len(row) * value_bytes <= len(gaps) + len(values) * value_bytes:
            gaps, values = [DENSE], row.tolist()
        table.gaps.extend(gaps)
        table.values.extend(values)
    return table


def _code_row(row: Tensor) -> tuple[list[int], list[float]]:
    gaps, values, last = [], [], 0
    for index in torch.nonzero(row).flatten().tolist():
        fillers, gap = divmod(index - last, LONGEST)
        if fillers and not gap:
            fillers, gap = fillers - 1, LONGEST
        gaps += [LONGEST] * fillers + [gap]
        values += [0.0] * fillers + [float(row[index])]
        last = index
    return [*gaps, END], values
