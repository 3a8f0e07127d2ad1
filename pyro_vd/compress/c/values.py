"""How weights are stored in C: as float32, float16 or 8-bit integers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pyro_vd.errors import UserError, did_you_mean

__all__ = ["VALUES", "Values", "ValuesName", "literal", "values_of"]

INT8_MAX = 127
ValuesName = Literal["float32", "float16", "int8"]


def literal(number: float) -> str:
    """The number as a C constant of type float, which reads back to the same float32.

    Example:
        >>> literal(0.1), literal(-2.0)
        ('0.1f', '-2.0f')
    """
    single = torch.tensor(number, dtype=torch.float32)
    if not bool(single.isfinite()):  # a larger number of Python becomes infinite
        return "NAN" if math.isnan(number) else "INFINITY" if number > 0 else "-INFINITY"
    shortest = str(single.numpy())
    return f"{shortest}f" if "." in shortest or "e" in shortest else f"{shortest}.0f"


@dataclass(frozen=True)
class Values(ABC):
    """A type of the stored weights.

    Attributes:
        name: the name that :func:`to_c` takes.
        c_type: type of a stored weight in C.
        bytes: its size.
    """

    name: str
    c_type: str
    bytes: int

    @abstractmethod
    def encode(self, weight: Tensor, where: str) -> tuple[Tensor, float]:
        """The stored numbers, and the number by which a layer multiplies its sums of them."""

    def c_value(self, code: float) -> str:
        """A stored number in C."""
        return str(int(code))

    def round(self, weight: Tensor, where: str) -> Tensor:
        """The weight as C computes with it."""
        codes, scale = self.encode(weight, where)
        return codes.float() * scale


class _Float32(Values):
    def encode(self, weight: Tensor, where: str) -> tuple[Tensor, float]:
        return weight, 1.0

    def c_value(self, code: float) -> str:
        return literal(code)


class _Float16(Values):
    def encode(self, weight: Tensor, where: str) -> tuple[Tensor, float]:
        half = weight.half()
        if not bool(half.isfinite().all()):
            raise UserError(f"to_c: {where} has weights beyond 65,504, the largest number of float16; choose float32")
        return half, 1.0

    def c_value(self, code: float) -> str:
        return f"0x{int(torch.tensor(code, dtype=torch.float16).view(torch.int16)) & 0xFFFF:04x}"


class _Int8(Values):
    def encode(self, weight: Tensor, where: str) -> tuple[Tensor, float]:
        scale = (float(weight.abs().max()) if weight.numel() else 0.0) / INT8_MAX or 1.0
        return (weight / scale).round(), scale


VALUES = {
    values.name: values
    for values in (_Float32("float32", "float", 4), _Float16("float16", "uint16_t", 2), _Int8("int8", "int8_t", 1))
}


def values_of(name: str) -> Values:
    """The values of this name.

    Raises:
        UserError: if there are none, naming those there are.
    """
    if not isinstance(name, str) or name not in VALUES:
        raise UserError(f"to_c: values={name!r}: it must be one of {', '.join(VALUES)}{did_you_mean(name, VALUES)}")
    return VALUES[name]
