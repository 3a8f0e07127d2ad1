"""Steps with weights: linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from pyro_vd.compress.c.source import Source
from pyro_vd.compress.c.steps import Affine, Step, Window
from pyro_vd.compress.c.values import Values

__all__ = ["Convolution", "Layer", "Linear"]


@dataclass(frozen=True, kw_only=True)
class Layer(Step):
    """A step with a weight.

    Attributes:
        weight: (outputs, ...), float32.
        bias: (outputs,), or None.
    """

    weight: Tensor
    bias: Tensor | None

    def fits(self, affine: Affine) -> bool:
        """Whether a step after the layer has one scale for each of its outputs."""
        return len(affine.scale) == len(self.weight)

    def folded(self, affine: Affine) -> Self:
        """The layer with the step after it in its weight and bias."""
        weight = affine.scale.view(-1, *[1] * (self.weight.ndim - 1)) * self.weight
        bias = affine.shift if self.bias is None else affine.scale * self.bias + affine.shift
        return replace(self, weight=weight, bias=bias, shape=affine.shape)

    def rounded(self, values: Values) -> Self:
        """The layer with the weights that C computes with."""
        return replace(self, weight=values.round(self.weight, self.where))

    def write_tables(self, source: Source) -> str:
        """The tables of weight and bias as arguments in C."""
        bias = "0" if self.bias is None else source.floats(f"{self.name}_bias", self.bias)
        return f"{source.weights(self.name, self.weight.flatten(1), self.where)}, {bias}"


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """A linear layer; its weight is (outputs, inputs)."""

    def run(self, *given: Tensor) -> Tensor:
        made = F.linear(given[0].flatten(1), self.weight, self.bias)
        return made.reshape(len(made), *self.shape)

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        source.use("linear")
        outputs, inputs = self.weight.shape
        return f"linear({inputs}, {outputs}, {self.write_tables(source)}, {given[0]}, {result});"


@dataclass(frozen=True, kw_only=True)
class Convolution(Layer):
    """A convolution of images; its weight is (outputs, inputs of a group, height, width)."""

    window: Window
    groups: int

    def run(self, *given: Tensor) -> Tensor:
        window = self.window
        images = given[0].reshape(len(given[0]), window.channels, *window.given)
        (top, left), (below, right) = window.padding, window.padding_after()
        padded = F.pad(images, (left, right, top, below))
        made = F.conv2d(padded, self.weight, self.bias, window.stride, 0, window.dilation, self.groups)
        return made.reshape(len(images), *self.shape)

    def write(self, source: Source, given: Sequence[str], result: str) -> str:
        window = self.window.write(source, self.name)
        source.use("area", "convolve")
        sizes = f"{self.groups}, {len(self.weight)}"
        return f"convolve({window}, {sizes}, {self.write_tables(source)}, {given[0]}, {result});"
