"""Fully connected networks with ReLU. The default is that of Kingma et al. 2015: 784 inputs, three equal layers."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected network that maps (batch, 1, 28, 28) images to (batch, classes) logits.

    Args:
        classes: number of classes.
        hidden: widths of the hidden layers.
        std: standard deviation of the initial weights, which are then normal; None for the initial weights of
            ``nn.Linear``. Biases start as those of ``nn.Linear`` in either case.
        noise: standard deviation of the normal noise that is added to every hidden unit in training.

    Raises:
        UserError: for a width below 1, or a standard deviation that is negative or not finite.
    """

    input_shape = (1, 28, 28)

    def __init__(
        self,
        classes: int = 10,
        hidden: Sequence[int] = (250, 250, 250),
        std: float | None = None,
        noise: float = 0.0,
    ):
        super().__init__()
        if any(width < 1 for width in hidden):
            raise UserError(f"MLP(hidden={tuple(hidden)}): a layer has at least one unit")
        for name, value in (("std", std or 0.0), ("noise", noise)):
            if not 0 <= value < math.inf:
                raise UserError(f"MLP({name}={value}): a standard deviation is at least 0 and finite")
        self.noise = noise
        widths = (784, *hidden, classes)
        for layer, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            linear = nn.Linear(inputs, outputs)
            if std is not None:
                nn.init.normal_(linear.weight, std=std)
            self.add_module(f"fc{layer}", linear)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        *hidden, last = self.children()
        for layer in hidden:
            x = layer(x).relu()
            if self.noise and self.training:
                x = x + self.noise * torch.randn_like(x)
        logits: Tensor = last(x)
        return logits
