"""What each layer does to channels, in one table: ``MODULE_RULES``.

To let :func:`pyro_vd.compress.shrink` handle another layer, add its class to the table, with its rule.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.layers import EMBEDDINGS, INSTANCE_NORMS, LAYERS, NORMS
from pyro_vd.compress.recurrent import SplitRecurrent
from pyro_vd.compress.rules.calls import Call, unknown
from pyro_vd.compress.rules.functions import (
    Rule,
    label_glu,
    label_last_axes,
    label_normalization,
    label_resizing,
    label_softmax,
)
from pyro_vd.compress.rules.labels import OUTSIDE, Labeled, varying_axes
from pyro_vd.compress.rules.merges import keep_all, label_elementwise
from pyro_vd.compress.rules.movements import label_channel_shuffle, label_movement, label_pixel_shuffle, label_reshape
from pyro_vd.compress.selected_linear import SelectedLinear

__all__ = ["MODULE_RULES", "rule_of_module"]


def label_layer(call: Call, channels: Channels) -> Tensor:
    """A layer with a weight: it consumes the channels of its inputs, and produces new ones."""
    layer: Any = call.module
    if isinstance(layer, EMBEDDINGS):
        return label_embedding(call, channels)
    is_linear = isinstance(layer, nn.Linear)
    axes = len(call.source.shape)
    if not is_linear and axes != len(layer.kernel_size) + 2:
        raise unknown(f"{call.describe()} on a single example", "add an axis for the batch")
    axis = axes - 1 if is_linear else 1
    if is_linear and axes > 1 and axis not in varying_axes(call.source.labels) and call.source.labels.numel() > 1:
        return call.source.labels  # it mixes positions of each channel
    read = read_labels(call.source, axis, channels)
    if isinstance(layer, SelectedLinear):
        _set_or_union(channels.selectable, call.name, read, channels)
        read = [read[index] for index in layer.selected.tolist()]
    outputs = layer.out_features if is_linear else layer.out_channels
    made = produce(call.name, layer.weight, read, outputs, channels)
    _couple_groups(int(getattr(layer, "groups", 1)), read, made, channels)
    return _on_axis(made, axis, axes)


def label_embedding(call: Call, channels: Channels) -> Tensor:
    """A table of rows: its columns are channels."""
    table: Any = call.module
    if table.max_norm is not None:
        raise unknown(f"{call.describe()} with max_norm", "normalize its rows once, and set max_norm=None")
    axes = call.rank
    read = [OUTSIDE] * table.num_embeddings
    made = produce(call.name, table.weight, read, table.embedding_dim, channels)
    return _on_axis(made, axes - 1, axes)


def produce(name: str, weight: Tensor, read: list[int], outputs: int, channels: Channels) -> list[int]:
    """Labels of the outputs of a layer with this weight, which reads these labels.

    A layer that is called several times reads at each call what it reads at the first one.
    """
    owner = next((other for other, known in channels.weights.items() if known is weight), name)
    if owner != name:
        raise unknown(f"layer {name!r}, whose weight is another layer's too ({owner!r}),", "untie them with a copy")
    channels.weights[name] = weight
    _set_or_union(channels.consumers, name, read, channels)
    if name not in channels.producers:
        channels.producers[name] = channels.labels.make(outputs)
    return channels.producers[name]


def read_labels(source: Labeled, axis: int, channels: Channels) -> list[int]:
    """Labels along an axis; where they vary along another one too, they stay."""
    if varying_axes(source.labels) not in ([], [axis]):
        channels.protect(source.labels)
        return [OUTSIDE] * source.shape[axis]
    return source.labels.flatten().expand(source.shape[axis]).tolist()


def _set_or_union(part: dict[str, list[int]], name: str, labels: list[int], channels: Channels) -> None:
    channels.union(part.setdefault(name, labels), labels)


def _couple_groups(groups: int, read: list[int], made: list[int], channels: Channels) -> None:
    """The inputs and outputs of a group of a convolution stay or go together."""
    inputs, outputs = len(read) // groups, len(made) // groups
    for group in range(groups if groups > 1 else 0):
        channels.couple(read[group * inputs : (group + 1) * inputs] + made[group * outputs : (group + 1) * outputs])


def _on_axis(labels: list[int], axis: int, axes: int) -> Tensor:
    return torch.tensor(labels).view([-1 if index == axis else 1 for index in range(axes)])


def label_norm(call: Call, channels: Channels) -> Tensor:
    """Normalization of each channel by itself, and PReLU with a slope for each channel."""
    norm: Any = call.module
    if isinstance(norm, NORMS) and not norm.track_running_stats:
        raise unknown(f"{call.describe()} without running averages", "set track_running_stats=True")
    if isinstance(norm, INSTANCE_NORMS) and call.rank != int(type(norm).__name__[-2]) + 2:
        raise unknown(f"{call.describe()} on a single example", "add an axis for the batch")
    if isinstance(norm, nn.PReLU) and norm.num_parameters == 1:
        return call.source.labels
    _set_or_union(channels.norms, call.name, read_labels(call.source, 1, channels), channels)
    return call.source.labels


def label_group_norm(call: Call, channels: Channels) -> Tensor:
    """All channels of a group enter the mean and the variance, so a group is one channel."""
    norm: Any = call.module
    labels = read_labels(call.source, 1, channels)
    if not norm.affine:  # a file of its tensors would not tell how many groups are left
        channels.protect(call.source.labels)
    size = len(labels) // norm.num_groups
    for first in range(0, len(labels), size):
        channels.union([labels[first]] * size, labels[first : first + size])
    _set_or_union(channels.norms, call.name, labels, channels)
    return call.source.labels


def label_pool(call: Call, channels: Channels) -> tuple[Tensor, ...]:
    """A pool or padding, whose name ends in its number of axes."""
    return label_last_axes(call, channels, int(type(call.module).__name__[-2]))


def label_recurrent(call: Call, channels: Channels) -> Any:
    """A recurrent network: the hidden units of all layers and directions, of which equally many stay."""
    net: Any = call.module
    if call.argument(1, "hx") is not None:
        raise unknown(f"{call.describe()} with an initial state", "let the state begin at zero")
    read = read_labels(call.source, 2, channels)
    states = []
    for level in range(net.num_layers):
        made = []
        for suffix in net.suffixes(level):
            made.append(_label_direction(f"{call.name}.", suffix, net, read, channels))
        read = [label for labels in made for label in labels]
        states += made
    channels.equal.append(states)
    last = torch.tensor(states)[:, None]
    return torch.tensor(read)[None, None], (last, last) if net.mode == "LSTM" else last


def _label_direction(prefix: str, suffix: str, net: Any, read: list[int], channels: Channels) -> list[int]:
    """The unit j has row j of each gate, in both weights."""
    one, other = f"{prefix}ih_{suffix}", f"{prefix}hh_{suffix}"
    if one not in channels.producers:
        units = channels.labels.make(net.hidden_size)
        channels.producers[one] = channels.producers[other] = units * net.gates
        channels.consumers[other] = units
    _set_or_union(channels.consumers, one, read, channels)
    channels.weights |= {one: net.get_submodule(f"ih_{suffix}").weight, other: net.get_submodule(f"hh_{suffix}").weight}
    return channels.consumers[other]


POINTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Threshold,
    nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.modules.dropout._DropoutNd,
)  # fmt: skip
LAST_AXES = (
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._LPPoolNd, nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd, nn.modules.padding._CircularPadNd,
)  # fmt: skip
MODULE_RULES: dict[tuple[type, ...], Rule] = {
    LAYERS: label_layer,
    (*NORMS, *INSTANCE_NORMS, nn.PReLU): label_norm,
    (nn.GroupNorm,): label_group_norm,
    (nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm): label_normalization,
    (SplitRecurrent,): label_recurrent,
    (nn.Flatten, nn.Unflatten): label_reshape,
    (nn.Softmax, nn.LogSoftmax): label_softmax,
    (nn.GLU,): label_glu,
    (nn.Softmax2d,): keep_all,
    (nn.Upsample,): label_resizing,
    (nn.PixelShuffle,): label_pixel_shuffle,
    (nn.ChannelShuffle,): label_channel_shuffle,
    (nn.PixelUnshuffle,): label_movement,
    POINTWISE: label_elementwise,
    LAST_AXES: label_pool,
}


def rule_of_module(module: nn.Module) -> Rule | None:
    """The rule of a layer, or None."""
    return next((rule for types, rule in MODULE_RULES.items() if isinstance(module, types)), None)
