"""The layers that :func:`pyro_vd.compress.shrink` makes smaller, their weights, and their numbers of units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pyro_vd.model.layers import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS

__all__ = [
    "CHANNELWISE",
    "EMBEDDINGS",
    "INSTANCE_NORMS",
    "LAYERS",
    "NORMS",
    "architecture",
    "as_groups",
    "from_groups",
    "linear_of",
    "set_parameters",
    "set_sizes",
]

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, *EMBEDDINGS)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
CHANNELWISE = (*NORMS, *INSTANCE_NORMS, nn.GroupNorm, nn.PReLU)  # modules with a value for each channel


def architecture(net: nn.Module) -> dict[str, tuple[int, int]]:
    """Layer -> (inputs, outputs) of every convolution and linear layer."""
    sizes = {}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear):
            sizes[name] = (layer.in_features, layer.out_features)
        elif isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)):
            sizes[name] = (layer.in_channels, layer.out_channels)
    return sizes


def as_groups(layer: nn.Module) -> Tensor:
    """A view of the layer's weight as (groups, outputs of a group, inputs of a group, ...).

    All layers but grouped convolutions have one group.
    """
    weight = layer.get_parameter("weight")
    if isinstance(layer, EMBEDDINGS):
        return weight.T[None]
    groups = int(getattr(layer, "groups", 1))
    grouped = weight.view(groups, len(weight) // groups, *weight.shape[1:])
    return grouped.transpose(1, 2) if isinstance(layer, TRANSPOSED_CONVOLUTIONS) else grouped


def from_groups(layer: nn.Module, grouped: Tensor) -> Tensor:
    """The weight of the layer that :func:`as_groups` would view in this way."""
    if isinstance(layer, EMBEDDINGS):
        return grouped[0].T
    return (grouped.transpose(1, 2) if isinstance(layer, TRANSPOSED_CONVOLUTIONS) else grouped).flatten(0, 1)


def set_sizes(module: nn.Module) -> None:
    """Sets the module's numbers of units to those of its tensors, after these were replaced."""
    sized: Any = module
    if isinstance(module, nn.Linear):
        sized.out_features, sized.in_features = module.weight.shape
    elif isinstance(module, EMBEDDINGS):
        sized.embedding_dim = module.weight.shape[1]
    elif isinstance(module, (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)):
        _set_sizes_of_convolution(sized)
    elif isinstance(module, nn.PReLU):
        sized.num_parameters = len(module.weight)
    elif isinstance(module, nn.GroupNorm) and module.affine:
        _set_groups(module, len(module.weight))
    elif isinstance(module, (*NORMS, *INSTANCE_NORMS)):
        sized.num_features = len(module.running_mean if module.weight is None else module.weight)


def _set_groups(norm: nn.GroupNorm, channels: int) -> None:
    """Sets the number of channels of group normalization; the channels of a group are as many as before."""
    norm.num_groups = channels * norm.num_groups // norm.num_channels
    norm.num_channels = channels


def _set_sizes_of_convolution(layer: Any) -> None:
    first, second = layer.weight.shape[:2]
    if isinstance(layer, TRANSPOSED_CONVOLUTIONS):
        group = layer.in_channels // layer.groups
        layer.groups = first // group if layer.groups > 1 else 1
        layer.in_channels, layer.out_channels = first, second * layer.groups
    else:
        group = layer.out_channels // layer.groups
        layer.groups = first // group if layer.groups > 1 else 1
        layer.in_channels, layer.out_channels = second * layer.groups, first


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with copies of these values, in eval mode."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=False, device="meta")
    for key, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            setattr(layer, key, nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad))
    return layer.eval()


def set_parameters(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Replaces parameters of the module by copies of these values."""
    requires_grad = any(parameter.requires_grad for parameter in module.parameters())
    for name, value in values.items():
        module._parameters[name] = nn.Parameter(value.detach().clone(), requires_grad=requires_grad)
