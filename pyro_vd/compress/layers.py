"""The layers that :func:`pyro_vd.compress.shrink` makes smaller, and their numbers of inputs and outputs."""

from __future__ import annotations

from torch import nn

from pyro_vd.model.layers import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS

__all__ = ["LAYERS", "NORMS", "architecture", "is_depthwise", "set_sizes"]

LAYERS = (nn.Linear, *CONVOLUTIONS)  # no transposed convolutions: shrink does not resize them
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def is_depthwise(layer: nn.Module) -> bool:
    """Whether the layer is a convolution of each channel by itself, with one output channel for each input channel."""
    return isinstance(layer, CONVOLUTIONS) and layer.groups == layer.in_channels == layer.out_channels


def architecture(net: nn.Module) -> dict[str, tuple[int, int]]:
    """Layer -> (inputs, outputs) of every convolution and linear layer."""
    sizes = {}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear):
            sizes[name] = (layer.in_features, layer.out_features)
        elif isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)):
            sizes[name] = (layer.in_channels, layer.out_channels)
    return sizes


def set_sizes(layer: nn.Module) -> None:
    """Sets the layer's numbers of inputs and outputs to those of its weight."""
    outputs, inputs = layer.get_parameter("weight").shape[:2]
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
    elif isinstance(layer, CONVOLUTIONS) and layer.groups != 1:  # depthwise
        layer.groups = layer.in_channels = layer.out_channels = outputs
    elif isinstance(layer, CONVOLUTIONS):
        layer.in_channels, layer.out_channels = inputs, outputs
