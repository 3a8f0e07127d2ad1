"""The LeNet-5 of LeCun et al. 1998 with ReLU and max-pooling: conv 6, conv 16, conv 120, 84, 10."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LeNet1998"]


class LeNet1998(nn.Module):
    """Three 5x5 convolutions, the first with padding, the first two with 2x2 max-pooling, and a hidden layer of 84
    units.

    It maps (batch, 1, 28, 28) images to (batch, classes) logits. The third convolution sees 5x5 pixels, so its output
    is one pixel of 120 channels. LeCun et al. use tanh, average pooling and a radial output layer.

    Args:
        classes: number of classes.
    """

    input_shape = (1, 28, 28)

    def __init__(self, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        x = self.conv3(x).relu().flatten(1)
        logits: Tensor = self.fc2(self.fc1(x).relu())
        return logits
