"""Labels of the elements of a tensor: to which channel each element belongs.

The labels of a tensor are an int64 tensor of the same number of axes, which broadcasts to its shape: along an axis on
which the labels do not vary, it has the length 1. The labels of (batch, channels, height, width) are of the shape
(1, channels, 1, 1), and those of attention heads (batch, heads, tokens, features) of (1, heads, 1, features).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["OUTSIDE", "Labeled", "compact", "outside", "pad_axes", "varying_axes"]

OUTSIDE = 0  # the label of what is no channel of a layer: the network's inputs and its own tensors


@dataclass(frozen=True)
class Labeled:
    """What tracing knows of one tensor.

    Attributes:
        shape: its shape.
        labels: the labels of its elements.
        from_inputs: whether it depends on the network's inputs.
        is_average: whether its last axis sums to 1, as the weights of attention do.
        has_fixed_first_axis: whether its first axis keeps its length if units go, as the layers of a recurrent network.
    """

    shape: tuple[int, ...]
    labels: Tensor
    from_inputs: bool = True
    is_average: bool = False
    has_fixed_first_axis: bool = False

    @property
    def is_outside(self) -> bool:
        return bool((self.labels == OUTSIDE).all())

    def expand(self) -> Tensor:
        """A label for each element."""
        return self.labels.expand(self.shape)


def outside(axes: int) -> Tensor:
    """Labels of a tensor with so many axes that holds no channel."""
    return torch.full((1,) * axes, OUTSIDE)


def compact(labels: Tensor) -> Tensor:
    """The same labels, with the length 1 along axes on which they do not vary."""
    for axis in range(labels.ndim):
        first = labels.narrow(axis, 0, 1)
        if labels.shape[axis] > 1 and bool((labels == first).all()):
            labels = first
    return labels.clone()


def varying_axes(labels: Tensor) -> list[int]:
    """Axes on which the labels vary."""
    return [axis for axis, length in enumerate(labels.shape) if length > 1]


def pad_axes(labels: Tensor, axes: int) -> Tensor:
    """The labels with new first axes, as broadcasting adds them."""
    return labels.view((1,) * (axes - labels.ndim) + tuple(labels.shape))
