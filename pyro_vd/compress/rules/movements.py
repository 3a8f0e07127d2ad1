"""Rules for operations that move elements: reshapes, permutations, slices, concatenation, padding.

The rule is the operation itself, on the labels of the elements. What remains is to see that the same code, with the
numbers that it holds, moves the elements of the smaller network to the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.rules.calls import Call, unknown
from pyro_vd.compress.rules.labels import OUTSIDE, Labeled, compact, pad_axes, varying_axes
from pyro_vd.compress.rules.merges import keep_all, merge

__all__ = [
    "label_channel_shuffle",
    "label_chunks",
    "label_concatenation",
    "label_movement",
    "label_padding",
    "label_parts",
    "label_pixel_shuffle",
    "label_reshape",
    "label_squeeze",
    "label_stack",
]


def label_movement(call: Call, channels: Channels) -> Tensor:
    """A permutation, an expansion and the like: there is no number in the code that counts channels."""
    moved = call.run_on_labels()
    if not isinstance(moved, Tensor):
        raise unknown(f"{call.describe()}, which gives several tensors,")
    return compact(moved)


def label_squeeze(call: Call, channels: Channels) -> Tensor:
    """Axes of length 1 go. Two channels stay at least, so that theirs is not one of them."""
    source = call.source
    for axis in set(varying_axes(source.labels)) & set(call.axes() or range(len(source.shape))):
        channels.protect(source.labels.narrow(axis, 0, 2))
    return label_movement(call, channels)


def label_reshape(call: Call, channels: Channels) -> Tensor:
    """A reshape. If it splits channels into groups or heads, whole groups stay or go."""
    source, moved = call.source, label_movement(call, channels)
    axes = varying_axes(moved)
    written = [axis for axis in axes if _is_written(call, axis)]
    if len(axes) == 2 and len(written) == 1:
        (open_axis,) = set(axes) - set(written)
        for part in moved.unbind(open_axis):
            channels.couple(part.flatten().tolist())
    elif written or (len(axes) > 1 and _lengths(moved) != _lengths(source.labels)):
        channels.protect(source.labels)
    return moved


def _lengths(labels: Tensor) -> list[int]:
    return [labels.shape[axis] for axis in varying_axes(labels)]


def _is_written(call: Call, axis: int) -> bool:
    """Whether the length of this axis of the result is a number in the code, and not -1 or computed from a size."""
    first, sizes = _sizes_in_code(call)
    if not first <= axis < first + len(sizes):
        return False
    return not isinstance(sizes[axis - first], fx.Node) and sizes[axis - first] != -1


def _sizes_in_code(call: Call) -> tuple[int, Sequence[Any]]:
    """The first axis of the result that a reshape names the length of, and the lengths; none of a flattening."""
    given: tuple[Any, ...] = (*call.node.args[1:], *call.node.kwargs.values())
    if isinstance(call.module, nn.Unflatten):
        return call.module.dim % len(call.source.shape), call.module.unflattened_size
    if call.name == "unflatten":
        return given[0] % len(call.source.shape), given[1]
    if call.name == "flatten" or call.module is not None:
        return 0, ()
    if len(given) > 1:
        return 0, given
    return 0, given[0] if isinstance(given[0], tuple | list) else ()


def label_parts(call: Call, channels: Channels) -> Any:
    """Slices, indices and splits. Where they divide channels by numbers in the code, the channels stay."""
    source = call.source
    if len(call.tensors) > 1:  # an index that is a tensor
        return keep_all(call, channels)
    if call.name == "getitem" and source.has_fixed_first_axis and isinstance(call.args[1], int):
        return source.labels[call.args[1]]  # of one layer
    moved = call.run_on_labels()
    parts = [moved] if isinstance(moved, Tensor) else list(moved)
    before = source.labels.flatten()
    for part in parts:
        after = compact(part).flatten()
        if after.shape != before.shape or not torch.equal(after, before):
            channels.protect(source.labels)
    return compact(moved) if isinstance(moved, Tensor) else tuple(compact(part) for part in parts)


def label_chunks(call: Call, channels: Channels) -> tuple[Tensor, ...]:
    """Parts of equal length: a unit of one part stays or goes with those of the others."""
    (axis,) = (call.argument(2, "dim", 0) % len(call.source.shape),)
    moved = call.run_on_labels()
    parts = tuple(compact(part) for part in moved)
    if axis not in varying_axes(call.source.labels):
        return parts
    if len({part.shape for part in parts}) > 1:
        channels.protect(call.source.labels)
        return parts
    for labels in zip(*(part.flatten().tolist() for part in parts), strict=True):
        channels.couple(list(labels))
    return parts


def label_concatenation(call: Call, channels: Channels) -> Tensor:
    """Channels one after the other, or positions one after the other with the same channels."""
    parts: Sequence[Labeled] = call.argument(0, "tensors")
    axis = call.argument(1, "dim", 0) % len(parts[0].shape)
    varying = [varying_axes(part.labels) for part in parts]
    if any(axis in axes for axes in varying) or not any(varying):
        return label_movement(call, channels)
    return merge(parts, channels)


def label_stack(call: Call, channels: Channels) -> Tensor:
    """A new axis of positions."""
    parts: Sequence[Labeled] = call.argument(0, "tensors")
    axis = call.argument(1, "dim", 0) % (len(parts[0].shape) + 1)
    return merge(parts, channels).unsqueeze(axis)


def label_padding(call: Call, channels: Channels) -> Tensor:
    """Padding of positions. Padding of channels adds entries that are no channels."""
    padding = call.argument(1, "pad")
    axes = [call.rank - 1 - index // 2 for index, length in enumerate(padding) if length]
    if not set(axes) & set(varying_axes(call.source.labels)):
        return call.source.labels
    if call.argument(2, "mode", "constant") != "constant" or min(padding) < 0:  # a negative length takes channels away
        return keep_all(call, channels)
    return compact(torch.nn.functional.pad(call.source.expand(), padding, value=OUTSIDE))


def label_pixel_shuffle(call: Call, channels: Channels) -> Tensor:
    """The channels that become positions of one channel are one channel."""
    moved = label_movement(call, channels)
    axis = moved.ndim - 3
    for part in moved.unbind(axis):
        labels = part.flatten().tolist()
        channels.union(labels[:1] * len(labels), labels)
    return moved[..., :1, :1]


def label_channel_shuffle(call: Call, channels: Channels) -> Tensor:
    """A unit of one group stays or goes with those of the other groups."""
    groups: Any = call.module.groups if call.module is not None else call.argument(1, "groups")
    for labels in pad_axes(call.source.labels, 4).flatten().view(groups, -1).T.tolist():
        channels.couple(labels)
    return label_movement(call, channels)
