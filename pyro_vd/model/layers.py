"""The layer types whose weights the library knows: the one list of them."""

from __future__ import annotations

from torch import nn

__all__ = ["CONVOLUTIONS", "TRANSPOSED_CONVOLUTIONS", "WEIGHT_LAYERS", "input_dim_of"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHT_LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)


def input_dim_of(layer: nn.Module) -> int | None:
    """The dimension of the layer's weight that runs over its input units or channels.

    Returns:
        0 for transposed convolutions, 1 for linear layers and convolutions. None for a grouped convolution, whose
        weight has a part of the input channels only, and for any other module.
    """
    if isinstance(layer, TRANSPOSED_CONVOLUTIONS):
        return 0
    return 1 if isinstance(layer, (nn.Linear, *CONVOLUTIONS)) and getattr(layer, "groups", 1) == 1 else None
