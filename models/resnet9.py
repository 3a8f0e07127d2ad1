"""ResNet9: the residual network of nine layers of David Page's fast CIFAR-10 training."""

import torch.nn.functional as F
from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["ResNet9"]

LOGIT_SCALE = 0.125


class ConvBlock(nn.Module):
    """3x3 convolution, batch normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.norm(self.conv(x)).relu()
        return output


class ResidualBlock(nn.Module):
    """Two convolution blocks of one width, whose output is added to their input."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = ConvBlock(width, width), ConvBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.second(self.first(x))
        return output


class ResNet9(nn.Module):
    """Residual network that maps (batch, 3, 32, 32) images to (batch, classes) logits.

    Args:
        classes: number of classes.
        scale: factor of the widths 64, 128, 256 and 512.

    Raises:
        UserError: for a scale that leaves a layer empty.
    """

    input_shape = (3, 32, 32)

    def __init__(self, classes: int = 10, scale: float = 1.0):
        super().__init__()
        widths = [round(scale * width) for width in (64, 128, 256, 512)]
        if min(widths) < 1:
            raise UserError(f"ResNet9(scale={scale}): the first layer would be empty")
        self.prepare = ConvBlock(3, widths[0])
        self.layer1 = ConvBlock(widths[0], widths[1])
        self.residual1 = ResidualBlock(widths[1])
        self.layer2 = ConvBlock(widths[1], widths[2])
        self.layer3 = ConvBlock(widths[2], widths[3])
        self.residual3 = ResidualBlock(widths[3])
        self.fc = nn.Linear(widths[3], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residual1(F.max_pool2d(self.layer1(self.prepare(x)), 2))
        x = self.residual3(F.max_pool2d(self.layer3(F.max_pool2d(self.layer2(x), 2)), 2))
        logits: Tensor = self.fc(F.max_pool2d(x, 4).flatten(1)) * LOGIT_SCALE
        return logits
