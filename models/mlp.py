"""Fully connected networks with ReLU. The default is that of Kingma et al. 2015: 784 inputs, three equal layers."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected network that maps (batch, 1, 28, 28) images to (batch, classes) logits.

    Args:
        classes: number of classes.
        hidden: widths of the hidden layers.

    Raises:
        UserError: for a width below 1.
    """

    input_shape = (1, 28, 28)

    def __init__(self, classes: int = 10, hidden: Sequence[int] = (250, 250, 250)):
        super().__init__()
        if any(width < 1 for width in hidden):
            raise UserError(f"MLP(hidden={tuple(hidden)}): a layer has at least one unit")
        widths = (784, *hidden, classes)
        for layer, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            self.add_module(f"fc{layer}", nn.Linear(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        *hidden, last = self.children()
        for layer in hidden:
            x = layer(x).relu()
        logits: Tensor = last(x)
        return logits
