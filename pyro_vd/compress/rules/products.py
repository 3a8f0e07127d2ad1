"""Rules for products of two tensors of the network, as attention computes them.

The scores of a head, queries times keys, sum over the features of the head: the head becomes one channel, and its
queries and keys stay as long as the head does. Weights of attention times values mix positions and keep the features.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.rules.calls import Call
from pyro_vd.compress.rules.labels import Labeled
from pyro_vd.compress.rules.merges import keep_all, merge

__all__ = ["label_attention", "label_matmul"]


def label_matmul(call: Call, channels: Channels) -> Tensor:
    """(..., rows, k) times (..., k, columns)."""
    one, other = call.tensors
    result = None
    if min(len(one.shape), len(other.shape)) >= 2:
        result = _label_scores(one, other, channels) if _sums_channels(one, other) else _mix(one, other, channels)
    return keep_all(call, channels) if result is None else result


def label_attention(call: Call, channels: Channels) -> Tensor:
    """``scaled_dot_product_attention``: queries, keys, values and perhaps a mask."""
    query, key, value, *mask = call.tensors
    keys = replace(key, shape=(*key.shape[:-2], key.shape[-1], key.shape[-2]), labels=key.labels.mT)
    scores = _label_scores(query, keys, channels) if _sums_channels(query, keys) else None
    if scores is None:
        return keep_all(call, channels)
    shape = (*query.shape[:-1], key.shape[-2])
    weights = Labeled(shape, merge([Labeled(shape, scores), *mask], channels), is_average=True)
    mixed = _mix(weights, value, channels)
    return keep_all(call, channels) if mixed is None else mixed


def _sums_channels(one: Labeled, other: Labeled) -> bool:
    return one.labels.shape[-1] > 1 or other.labels.shape[-2] > 1


def _label_scores(one: Labeled, other: Labeled, channels: Channels) -> Tensor | None:
    """A new channel for each head, to which its queries and keys are tied; None if the rule does not apply."""
    if one.is_outside or other.is_outside or one.labels.shape[-2] > 1 or other.labels.shape[-1] > 1:
        return None
    if one.labels.shape[-1] != other.labels.shape[-2]:
        return None
    heads = torch.broadcast_shapes(one.labels.shape[:-2], other.labels.shape[:-2])
    scores = torch.tensor(channels.labels.make(heads.numel())).view(heads)
    queries, keys = one.labels[..., 0, :].expand(*heads, -1), other.labels[..., 0].expand(*heads, -1)
    read = torch.cat([queries, keys], -1).flatten(0, -2)
    for head, labels in zip(scores.flatten().tolist(), read.tolist(), strict=True):
        channels.couple([head, *labels])
    channels.followers.update(read.flatten().tolist())
    return scores[..., None, None]


def _mix(one: Labeled, other: Labeled, channels: Channels) -> Tensor | None:
    """Positions of one tensor mixed by the other, its gate; None if the rule does not apply."""
    carries = one.labels.shape[-2] > 1, other.labels.shape[-1] > 1
    if carries == (True, True) or carries == (False, False):
        return None
    carrier, gate = (one, other) if carries[0] else (other, one)
    if len(gate.shape) != len(carrier.shape):
        return None
    heads = carrier.labels.shape[:-2]
    if gate.is_outside:
        if any(head > 1 and length > 1 for head, length in zip(heads, gate.shape[:-2], strict=True)):
            channels.protect(carrier.labels)
    elif gate.labels.shape[:-2] != heads:
        return None
    else:
        _couple_heads(gate.labels, carrier.labels, channels)
    if not (gate.is_average and gate is one) and gate.from_inputs:
        channels.mixed.update(carrier.labels.flatten().tolist())
    return carrier.labels


def _couple_heads(gate: Tensor, carrier: Tensor, channels: Channels) -> None:
    """A head's values need its scores. One of several heads stays or goes as a whole."""
    values = carrier.flatten(-2).reshape(gate.numel(), -1).tolist()
    for head, labels in zip(gate.flatten().tolist(), values, strict=True):
        if gate.numel() > 1:
            channels.couple([head, *labels])
        else:
            channels.dependencies += [(label, head) for label in labels]
