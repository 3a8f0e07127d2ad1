"""A positive number of a likelihood: known, or learned by its logarithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["check_positive", "describe_number", "known_or_learned", "read_number"]


def known_or_learned(
    likelihood: str, name: str, value: float | None, learn: bool
) -> tuple[float | None, nn.Parameter | None]:
    """The known number, or the parameter that is its logarithm; the other one is None.

    Args:
        likelihood: its name in messages.
        name: of the argument.
        value: the number, or the first value of a learned one; a learned one starts at 1 by default.
        learn: whether it is learned.

    Raises:
        UserError: for a value that is not a finite number above 0, and for a known one without a value.
    """
    if value is None and not learn:
        raise UserError(f"{likelihood}: give {name}, a number above 0, or learn it with learn_{name}=True")
    start = check_positive(likelihood, name, 1.0 if value is None else value)
    return (None, nn.Parameter(torch.tensor(start).log())) if learn else (start, None)


def read_number(known: float | None, log: nn.Parameter | None) -> float | Tensor:
    """The number of which :func:`known_or_learned` made these; a 0-dim tensor if it is learned."""
    if log is not None:
        return log.exp()
    assert known is not None
    return known


def describe_number(name: str, number: float | Tensor, learned: bool) -> str:
    """The arguments that make such a number, for a module's repr."""
    return f"{name}={torch.as_tensor(number).item():.4g}" + f", learn_{name}=True" * learned


def check_positive(likelihood: str, name: str, value: float) -> float:
    """The value as a float.

    Raises:
        UserError: for a value that is not a finite number above 0.
    """
    if isinstance(value, bool) or not 0 < value < math.inf:  # also for NaN
        raise UserError(f"{likelihood}({name}={value}): {name} must be a finite number above 0")
    return float(value)
