"""LeNet-5-Caffe: conv 20, conv 50, 500, 10; 430,500 weights. The compression papers use this variant of LeNet-5."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LeNet5"]


class LeNet5(nn.Module):
    """Two 5x5 convolutions, each with ReLU and 2x2 max-pooling, and a hidden layer of 500 units.

    It maps (batch, 1, 28, 28) images to (batch, classes) logits.

    Args:
        classes: number of classes.
    """

    input_shape = (1, 28, 28)

    def __init__(self, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        logits: Tensor = self.fc2(self.fc1(x.flatten(1)).relu())
        return logits
