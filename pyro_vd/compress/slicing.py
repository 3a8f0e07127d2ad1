"""Takes channels out of the layers of a network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.dead_units import used_columns
from pyro_vd.compress.layers import INSTANCE_NORMS, as_groups, from_groups, set_sizes
from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.compress.split_layers import SPLIT_LAYERS

__all__ = ["keep_channels"]


def keep_channels(net: nn.Module, channels: Channels, kept: set[int]) -> None:
    """Takes all channels but the kept ones out of the layers of ``net``, in place.

    A linear layer that has inputs left with all weights 0 becomes a :class:`SelectedLinear`.

    Args:
        net: the network.
        channels: its channels.
        kept: labels of the channels that stay.
    """
    for name, labels in channels.norms.items():
        _slice_norm(net.get_submodule(name), _kept_indices(labels, kept))
    for name in channels.producers:
        layer = net.get_submodule(name)
        rows, columns = _kept_indices(channels.producers[name], kept), _kept_indices(channels.consumers[name], kept)
        _slice_layer(layer, rows, columns)
        if isinstance(layer, SelectedLinear):
            positions = torch.tensor([label in kept for label in channels.selectable[name]]).cumsum(0) - 1
            layer.selected = positions.to(layer.selected.device)[layer.selected[columns]]
        _select_inputs(net, name)


def _kept_indices(labels: list[int], kept: set[int]) -> Tensor:
    return torch.tensor([index for index, label in enumerate(labels) if label in kept], dtype=torch.long)


def _slice_norm(norm: nn.Module, index: Tensor) -> None:
    _replace(norm, {key: value[index] for key, value in _tensors(norm) if value.ndim == 1})
    if isinstance(norm, INSTANCE_NORMS):
        norm.num_features = len(index)  # also where it has no tensors
    else:
        set_sizes(norm)


def _slice_layer(layer: nn.Module, rows: Tensor, columns: Tensor) -> None:
    grouped = as_groups(layer)
    groups = (rows // grouped.shape[1]).unique()  # of several groups, whole ones stay or go
    sliced = grouped[groups] if len(grouped) > 1 else grouped[:, rows][:, :, columns]
    tensors = {"weight": from_groups(layer, sliced)}
    if layer._parameters.get("bias") is not None:
        tensors["bias"] = layer.get_parameter("bias")[rows]
    _replace(layer, tensors)
    set_sizes(layer)


def _select_inputs(net: nn.Module, name: str) -> None:
    """Puts a layer that selects its inputs in the place of a linear layer that does not use all of them."""
    layer = net.get_submodule(name)
    used = used_columns(layer)
    parent = net.get_submodule(name.rpartition(".")[0])
    if not isinstance(layer, nn.Linear) or isinstance(parent, (*SPLIT_LAYERS, nn.TransformerEncoderLayer)):
        return  # its parent uses its weight
    if bool(used.all()) or not bool(used.any()):
        return
    index = used.nonzero().flatten()
    selected = layer.selected[index] if isinstance(layer, SelectedLinear) else index
    selecting = SelectedLinear(selected, layer.out_features, layer.bias is not None).to(layer.weight)
    selecting.weight.copy_(layer.weight[:, index])
    if layer.bias is not None:
        selecting.bias.copy_(layer.bias)
    net.set_submodule(name, selecting.requires_grad_(layer.weight.requires_grad).eval())


def _replace(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    for key, value in tensors.items():
        if key in module._parameters:
            before = module.get_parameter(key)
            module._parameters[key] = nn.Parameter(value.clone(), requires_grad=before.requires_grad)
        else:
            module._buffers[key] = value.clone()


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
