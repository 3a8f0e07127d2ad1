"""Calls of PyTorch's operations, and the tensors that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["Call", "Result", "Selection"]


@dataclass(frozen=True)
class Result:
    """A tensor that a step computes.

    Attributes:
        name: of the step, or ``input``.
        shape: without the batch.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """Some entries along the last axis of a result; only a linear layer reads it."""

    result: Result
    selected: Tensor


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        operation: PyTorch's name of it, as ``linear``.
        where: the layer or operation in words.
        name: of the result.
        arguments: by their names in PyTorch; tensors are a :class:`Result`, a :class:`Selection` or a constant.
        shape: of the result, without the batch.
        compute: the operation with all arguments but the results.
    """

    operation: str
    where: str
    name: str
    arguments: Mapping[str, Any]
    shape: tuple[int, ...]
    compute: Callable[..., Tensor]

    @property
    def results(self) -> list[Result]:
        """The results among the arguments."""
        found: list[Result] = []
        for value in self.arguments.values():
            found += [one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, Result)]
        return found

    @property
    def common(self) -> dict[str, Any]:
        """What every step without weights has."""
        return {**self.place, "compute": self.compute}

    @property
    def place(self) -> dict[str, Any]:
        """What every step has."""
        reads = tuple(result.name for result in self.results)
        return {"name": self.name, "where": self.where, "reads": reads, "shape": self.shape}

    def refuse(self, what: str, mend: str = "compute it with what the page of to_c lists") -> UserError:
        """The error for this call."""
        return UserError(f"to_c: {self.where} {what}; {mend}; nothing is written")
