"""The steps of a network: what each computes in PyTorch, and the C statement that computes it for one example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_vd.compress.c.source import Source

__all__ = ["Affine", "Concatenation", "Elementwise", "Operation", "PReLU", "Pool", "Softmax", "Step", "Window"]


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One step.

    Attributes:
        name: of its result, a C identifier.
        where: the layer or operation in words.
        reads: names of the results that it reads.
        shape: of its result, without the batch.
    """

    in_place: ClassVar[bool] = False  # whether C may write the result over what it reads

    name: str
    where: str
    reads: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements of the result."""
        return torch.Size(self.shape).numel()

    @abstractmethod
    def run(self, *given: Tensor) -> Tensor:
        """The result in PyTorch, (batch, *shape)."""

    @abstractmethod
    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        """The statement in C.

        Args:
            source: gets the tables and functions that the statement needs.
            given: C expressions of what the step reads.
            result: C expression of its result.
        """


@dataclass(frozen=True, kw_only=True)
class Operation(Step):
    """A step without weights.

    Attributes:
        compute: the operation in PyTorch.
    """

    compute: Callable[..., Tensor]

    def run(self, *given: Tensor) -> Tensor:
        return self.compute(*given)


@dataclass(frozen=True, kw_only=True)
class Elementwise(Operation):
    """An expression of one number of each tensor."""

    in_place: ClassVar[bool] = True

    operation: str
    expression: str
    tensors: tuple[str, ...]

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        function = source.function(f"apply_{self.operation}", self.expression, self.tensors)
        return f"{function}({self.size}, {', '.join(given)}, {result});"


@dataclass(frozen=True, kw_only=True)
class Affine(Operation):
    """scale * x + shift, of each channel: what is left of batch normalization, and constants of the network's code.

    Attributes:
        scale: (channels,); the positions of a channel follow each other.
        shift: (channels,).
    """

    in_place: ClassVar[bool] = True

    scale: Tensor
    shift: Tensor

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        source.use("affine")
        scale, shift = source.floats(f"{self.name}_scale", self.scale), source.floats(f"{self.name}_shift", self.shift)
        channels = len(self.scale)
        return f"affine({channels}, {self.size // channels}, {scale}, {shift}, {given[0]}, {result});"


@dataclass(frozen=True, kw_only=True)
class PReLU(Operation):
    """ReLU with a slope for each channel.

    Attributes:
        slopes: (channels,).
    """

    in_place: ClassVar[bool] = True

    slopes: Tensor

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        source.use("prelu")
        slopes, channels = source.floats(f"{self.name}_slopes", self.slopes), len(self.slopes)
        return f"prelu({channels}, {self.size // channels}, {slopes}, {given[0]}, {result});"


@dataclass(frozen=True)
class Window:
    """How a convolution or a pool reads images: pairs are (vertical, horizontal).

    Attributes:
        channels: number of channels that are read.
        given: height and width of an image.
        made: height and width of the result.
        padding: above and left.
    """

    channels: int
    given: tuple[int, int]
    made: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def padding_after(self) -> tuple[int, int]:
        """The padding below and to the right of the result; negative if the last rows or columns are not read."""
        axes = zip(self.given, self.made, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        below, right = (
            (made - 1) * stride + (kernel - 1) * dilation + 1 - given - padding
            for given, made, kernel, stride, padding, dilation in axes
        )
        return below, right

    def write(self, source: Source, name: str) -> str:
        """The window as a constant of C; its address."""
        source.use("window")
        pairs = {
            ("height", "width"): self.given,
            ("rows", "columns"): self.made,
            ("kernel_y", "kernel_x"): self.kernel,
            ("stride_y", "stride_x"): self.stride,
            ("padding_y", "padding_x"): self.padding,
            ("dilation_y", "dilation_x"): self.dilation,
        }
        fields = {key: number for keys, pair in pairs.items() for key, number in zip(keys, pair, strict=True)}
        return source.struct("window", f"{name}_window", {"channels": self.channels, **fields})


@dataclass(frozen=True, kw_only=True)
class Pool(Operation):
    """The maximum or the average of each window of each channel.

    Attributes:
        average: whether it is the average.
        include_padding: whether an average counts padded positions, as zeros.
        divisor: of an average, in place of the number of positions; 0 if there is none.
    """

    window: Window
    average: bool
    include_padding: bool = False
    divisor: int = 0

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        window = self.window.write(source, self.name)
        if not self.average:
            source.use("area", "max_pool")
            return f"max_pool({window}, {given[0]}, {result});"
        source.use("average_pool")
        return f"average_pool({window}, {int(self.include_padding)}, {self.divisor}, {given[0]}, {result});"


@dataclass(frozen=True, kw_only=True)
class Softmax(Operation):
    """Softmax along one axis, or its logarithm."""

    axis: int
    log: bool

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        source.use("softmax")
        before, length = torch.Size(self.shape[: self.axis]).numel(), self.shape[self.axis]
        after = self.size // (before * length)
        return f"softmax({int(self.log)}, {before}, {length}, {after}, {given[0]}, {result});"


@dataclass(frozen=True, kw_only=True)
class Concatenation(Operation):
    """Tensors one after the other along their first axis; of one tensor, a copy.

    Attributes:
        sizes: numbers of elements of the tensors.
    """

    sizes: tuple[int, ...]

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        starts = [sum(self.sizes[:index]) for index in range(len(self.sizes))]
        return "\n".join(
            f"memcpy({result}{f' + {start}' if start else ''}, {tensor}, {size} * sizeof(float));"
            for start, size, tensor in zip(starts, self.sizes, given, strict=True)
        )
