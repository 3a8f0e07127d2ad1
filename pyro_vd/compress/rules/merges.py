"""Rules for operations that join tensors element by element: arithmetic, activations, masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.rules.calls import Call
from pyro_vd.compress.rules.labels import Labeled, outside, pad_axes, varying_axes

__all__ = ["keep_all", "label_elementwise", "merge"]


def label_elementwise(call: Call, channels: Channels) -> Tensor:
    """Labels of the result of an elementwise operation: the channels of its terms become one, each with each."""
    return merge(call.tensors, channels)


def merge(terms: Sequence[Labeled], channels: Channels) -> Tensor:
    """Labels of terms that broadcast to one tensor.

    A term that has one entry for all channels of the others, and a term that holds no channels, changes their values
    but not which of them there are. A term without channels that has an entry for each of them cannot lose any, so
    they stay.
    """
    axes = max(len(term.shape) for term in terms)
    labels = [pad_axes(term.labels, axes) for term in terms]
    shapes = [(1,) * (axes - len(term.shape)) + term.shape for term in terms]
    varying = sorted({axis for each in labels for axis in varying_axes(each)})
    is_broadcast = [any(shape[axis] == 1 for axis in varying) for shape in shapes]
    joined = [
        each for term, each, small in zip(terms, labels, is_broadcast, strict=True) if not (small or term.is_outside)
    ]
    _keep_what_others_depend_on(terms, shapes, varying, is_broadcast, channels)
    if not joined:
        return outside(axes)
    result: Tensor
    result, *others = torch.broadcast_tensors(*joined)
    for other in others:
        channels.union(result.flatten().tolist(), other.flatten().tolist())
    if any(term.from_inputs and (small or term.is_outside) for term, small in zip(terms, is_broadcast, strict=True)):
        channels.mixed.update(result.flatten().tolist())
    return result


def _keep_what_others_depend_on(
    terms: Sequence[Labeled],
    shapes: Sequence[tuple[int, ...]],
    varying: Sequence[int],
    is_broadcast: Sequence[bool],
    channels: Channels,
) -> None:
    for term, shape, small in zip(terms, shapes, is_broadcast, strict=True):
        if term.is_outside and any(shape[axis] > 1 for axis in varying):
            for other in terms:
                channels.protect(other.labels)
        elif small:
            channels.protect(term.labels)


def keep_all(call: Call, channels: Channels) -> Tensor:
    """Labels of a result that depends on all channels: they stay, and the result holds none."""
    for term in call.tensors:
        channels.protect(term.labels)
    return outside(call.rank)
