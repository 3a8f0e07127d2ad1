"""A small convolutional network for CIFAR-10, for comparing dropout schemes: conv 32, conv 64, 128, classes."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CifarCNN", "cifar_cnn"]

POOLINGS = 2


class CifarCNN(nn.Module):
    """Two 5x5 convolutions, each with ReLU and 2x2 max-pooling, and one hidden layer; (batch, classes) logits.

    Args:
        classes: number of classes.
        scale: factor of the widths 32, 64 and 128.
        size: height and width of the (batch, 3, size, size) images, a multiple of 4.

    Raises:
        ValueError: for another size, or a scale that leaves a layer empty.
    """

    def __init__(self, classes: int = 10, scale: float = 1.0, size: int = 32):
        super().__init__()
        if size < 1 or size % 2**POOLINGS:
            raise ValueError(f"CifarCNN(size={size}): two poolings need a multiple of {2**POOLINGS}")
        first, second, hidden = (round(scale * width) for width in (32, 64, 128))
        if first < 1:
            raise ValueError(f"CifarCNN(scale={scale}): the first layer would be empty")
        self.input_shape = (3, size, size)
        self.conv1 = nn.Conv2d(3, first, 5, padding=2)
        self.conv2 = nn.Conv2d(first, second, 5, padding=2)
        self.fc1 = nn.Linear(second * (size // 2**POOLINGS) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        return self.fc2(self.fc1(x.flatten(1)).relu())


def cifar_cnn(classes: int = 10, scale: float = 1.0, size: int = 32) -> CifarCNN:
    """A fresh network for images of ``size`` x ``size`` with widths times ``scale``."""
    return CifarCNN(classes, scale, size)
