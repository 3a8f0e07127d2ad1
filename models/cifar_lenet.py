"""The LeNet of PyTorch's CIFAR-10 tutorial, the smallest well-known network for these images."""

import torch.nn.functional as F
from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["CifarLeNet"]


class CifarLeNet(nn.Module):
    """Two 5x5 convolutions of 6 and 16 channels without padding, each with ReLU and 2x2 max-pooling, and hidden layers
    of 120 and 84 units.

    It maps (batch, 3, 32, 32) images to (batch, classes) logits.

    Args:
        classes: number of classes.
        scale: factor of the widths 6, 16, 120 and 84.

    Raises:
        UserError: for a scale that leaves a layer empty.
    """

    input_shape = (3, 32, 32)

    def __init__(self, classes: int = 10, scale: float = 1.0):
        super().__init__()
        first, second, third, fourth = (round(scale * width) for width in (6, 16, 120, 84))
        if first < 1:
            raise UserError(f"CifarLeNet(scale={scale}): the first layer would be empty")
        self.conv1 = nn.Conv2d(3, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.fc1 = nn.Linear(second * 25, third)
        self.fc2 = nn.Linear(third, fourth)
        self.fc3 = nn.Linear(fourth, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        x = self.fc2(self.fc1(x.flatten(1)).relu()).relu()
        logits: Tensor = self.fc3(x)
        return logits
