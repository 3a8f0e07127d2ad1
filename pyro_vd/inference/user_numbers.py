"""Numbers that a user gives, as Python's own: a scalar of NumPy or PyTorch is one too."""

from __future__ import annotations

import operator
from typing import SupportsFloat, SupportsIndex

from pyro_vd.errors import UserError

__all__ = ["to_number", "to_seed", "to_whole_number"]


def to_whole_number(name: str, value: SupportsIndex) -> int:
    """The value as a Python int.

    Raises:
        UserError: for a value that is not a whole number; ``name`` says of what.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise UserError(f"{name}={value!r} must be a whole number") from None


def to_seed(name: str, value: SupportsIndex) -> int:
    """The value as a Python int that seeds a generator of PyTorch.

    Raises:
        UserError: for a value that is not a whole number, or of more than 64 bits; ``name`` says of what.
    """
    seed = to_whole_number(name, value)
    if not -(2**63) <= seed < 2**64:
        raise UserError(f"{name}={seed} must be from -2**63 to 2**64 - 1")
    return seed


def to_number(name: str, value: SupportsFloat, low: float, high: float) -> float:
    """The value as a Python float.

    Raises:
        UserError: for a value that is not a number, or not in [low, high]; ``name`` says of what.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{name}={value!r} must be a number") from None
    if not low <= number <= high:  # NaN too
        raise UserError(f"{name}={number:g} must be a finite number from {low:g} to {high:g}")
    return number
