"""Two convolutions and one hidden layer for 32x32 images, with what a first course varies: norm, activation, sizes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyro_vd.errors import UserError, did_you_mean

__all__ = ["ACTIVATIONS", "CifarBasic"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class CifarBasic(nn.Module):
    """Two convolutions of 32 and 64 channels without padding, each with an activation and 2x2 max-pooling, and one
    hidden layer. It maps (batch, 3, 32, 32) images to (batch, classes) logits.

    Args:
        classes: number of classes.
        kernel: side of the kernels, at most 10.
        hidden: units of the hidden layer.
        activation: one of ``ACTIVATIONS``.
        batch_norm: whether batch normalization follows both convolutions.
        log_softmax: whether the outputs are log probabilities, as ``nn.NLLLoss`` wants them. They are logits too, of
            the same probabilities.

    Raises:
        UserError: for another activation, a kernel that leaves no image, or a hidden layer without units.
    """

    input_shape = (3, 32, 32)

    def __init__(
        self,
        classes: int = 10,
        kernel: int = 5,
        hidden: int = 120,
        activation: str = "relu",
        batch_norm: bool = False,
        log_softmax: bool = False,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            hint = did_you_mean(activation, ACTIVATIONS)
            raise UserError(f"CifarBasic(activation={activation!r}): must be one of {', '.join(ACTIVATIONS)}{hint}")
        side = ((32 - kernel + 1) // 2 - kernel + 1) // 2
        if kernel < 1 or side < 1 or hidden < 1:
            raise UserError(f"CifarBasic(kernel={kernel}, hidden={hidden}): kernel must be 1 to 10, hidden at least 1")
        self.activation, self.log_softmax = ACTIVATIONS[activation], log_softmax
        self.conv1, self.conv2 = nn.Conv2d(3, 32, kernel), nn.Conv2d(32, 64, kernel)
        self.norm1, self.norm2 = (nn.BatchNorm2d(n) if batch_norm else nn.Identity() for n in (32, 64))
        self.fc1, self.fc2 = nn.Linear(64 * side * side, hidden), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.activation(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(self.activation(self.norm2(self.conv2(x))), 2)
        logits: Tensor = self.fc2(self.activation(self.fc1(x.flatten(1))))
        return logits.log_softmax(1) if self.log_softmax else logits
