"""Collects the parts of a C file: tables of numbers, functions, and how many bytes the tables take."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from pyro_vd.compress.c.elementwise import write_function
from pyro_vd.compress.c.names import free_name
from pyro_vd.compress.c.tables import code_rows
from pyro_vd.compress.c.values import Values, literal

__all__ = ["KERNELS", "Source", "wrap"]

KERNELS = (
    "float32", "float16", "int8", "linear", "window", "area", "convolve", "max_pool", "average_pool", "affine", "prelu",
    "softmax",
)  # fmt: skip
"""Files of C functions, each after those that it calls."""
WIDTH = 100  # of a line of numbers


class Source:
    """The parts of a C file.

    Args:
        values: how weights are stored.

    Attributes:
        table_bytes: bytes of the tables written so far.
    """

    def __init__(self, values: Values):
        self.values = values
        self.table_bytes = 0
        self._tables: list[str] = []
        self._functions: dict[str, str] = {}  # text with @ for the name -> name
        self._kernels: set[str] = set()

    def use(self, *kernels: str) -> None:
        """Takes the functions of these files into the source."""
        self._kernels.update(kernels)

    def floats(self, name: str, numbers: Tensor) -> str:
        """A table of float32; its name."""
        return self._table("float", 4, name, [literal(number) for number in numbers.flatten().tolist()])

    def weights(self, name: str, matrix: Tensor, where: str) -> str:
        """The tables of a weight matrix, (outputs, inputs), and its scale, as arguments of a C function."""
        self.use(self.values.name)
        codes, scale = self.values.encode(matrix, where)
        table = code_rows(codes, self.values.bytes)
        gaps = self._table("uint8_t", 1, f"{name}_gaps", [str(gap) for gap in table.gaps])
        numbers = [self.values.c_value(value) for value in table.values]
        stored = self._table("weight", self.values.bytes, f"{name}_values", numbers or ["0"])  # C has no empty arrays
        return f"{gaps}, {stored}, {literal(scale)}"

    def struct(self, kind: str, name: str, fields: dict[str, int]) -> str:
        """A constant struct of integers; its address."""
        self.table_bytes += 4 * len(fields)
        numbers = ", ".join(f".{field} = {number}" for field, number in fields.items())
        self._tables.append(f"static const struct {kind} {name} = {{\n{wrap(numbers)}\n}};\n")
        return f"&{name}"

    def function(self, name: str, expression: str, tensors: Sequence[str]) -> str:
        """The name of a function that computes the expression element by element, which begins with ``name``."""
        text = write_function("@", expression, tensors)
        return self._functions.setdefault(text, free_name(name, self._functions.values()))

    def write(self) -> str:
        """The tables and functions, each after those that it needs."""
        kernels = [_read_kernel(name) for name in KERNELS if name in self._kernels]
        functions = [text.replace("@", name) for text, name in self._functions.items()]
        return "\n".join([*kernels, *functions, *self._tables])

    def _table(self, c_type: str, size: int, name: str, numbers: Sequence[str]) -> str:
        self.table_bytes += size * len(numbers)
        self._tables.append(f"static const {c_type} {name}[{len(numbers)}] = {{\n{wrap(', '.join(numbers))}\n}};\n")
        return name


def wrap(numbers: str) -> str:
    """Numbers in lines of limited length."""
    return textwrap.fill(numbers, WIDTH, initial_indent="    ", subsequent_indent="    ")


def _read_kernel(name: str) -> str:
    return (Path(__file__).parent / "kernels" / f"{name}.c").read_text(encoding="utf-8")
