"""A small convolutional network for CIFAR-10, for comparing dropout schemes."""

import torch.nn.functional as F
from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["CifarCNN"]

POOLINGS = 2


class CifarCNN(nn.Module):
    """Two 5x5 convolutions of 32 and 64 channels, each with ReLU and 2x2 max-pooling, and a hidden layer of 128 units.

    It maps (batch, 3, size, size) images to (batch, classes) logits.

    Args:
        classes: number of classes.
        scale: factor of the widths 32, 64 and 128.
        size: height and width of the images in pixels, a multiple of 4.

    Raises:
        UserError: for another size, and for a scale that leaves a layer empty.
    """

    def __init__(self, classes: int = 10, scale: float = 1.0, size: int = 32):
        super().__init__()
        if size < 1 or size % 2**POOLINGS:
            raise UserError(f"CifarCNN(size={size}): two poolings need a multiple of {2**POOLINGS}")
        first, second, hidden = (round(scale * width) for width in (32, 64, 128))
        if first < 1:
            raise UserError(f"CifarCNN(scale={scale}): the first layer would be empty")
        self.input_shape = (3, size, size)
        self.conv1 = nn.Conv2d(3, first, 5, padding=2)
        self.conv2 = nn.Conv2d(first, second, 5, padding=2)
        self.fc1 = nn.Linear(second * (size // 2**POOLINGS) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        logits: Tensor = self.fc2(self.fc1(x.flatten(1)).relu())
        return logits
