"""ResNet9: a residual network of nine layers for fast training on CIFAR-10, after David Page's and Keller Jordan's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyro_vd.data.augment import average_flips
from pyro_vd.data.labeled_images import to_float
from pyro_vd.errors import UserError

__all__ = ["ResNet9"]

LOGIT_SCALE = 0.125
PATCH = 2  # pixels per side of a patch that is whitened
EPS = 5e-4  # added to the variances of patches
MOMENTUM = 0.4  # of the averages of batch normalization: an epoch has few steps


class Whitening(nn.Module):
    """The first layer: fixed 2x2 filters, an added bias and GELU. Before the GELU the outputs are not correlated.

    The filters are the principal components of the training images' patches, divided by their standard deviations, and
    their negatives. Before :meth:`fit_images` they are those of uncorrelated pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        size = 3 * PATCH**2
        self.conv = nn.Conv2d(3, 2 * size, PATCH)
        self.conv.weight.requires_grad_(False)
        with torch.no_grad():
            self.conv.bias.zero_()  # type: ignore[union-attr]
        self._set_components(torch.eye(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x))

    @torch.no_grad()
    def fit_images(self, images: Tensor) -> None:
        """Computes the filters from images (n, 3, height, width); uint8 is divided by 255."""
        patches = F.unfold(to_float(images), PATCH).movedim(1, -1).flatten(0, 1).double()
        variances, components = torch.linalg.eigh(patches.T.cov())
        self._set_components((components / (variances + EPS).sqrt()).T)

    def _set_components(self, components: Tensor) -> None:
        """Makes the rows and their negatives the filters."""
        filters = components.reshape(-1, *self.conv.weight.shape[1:])
        self.conv.weight.data.copy_(torch.cat([filters, -filters]))


class ConvBlock(nn.Module):
    """Convolution, max pooling if asked for, batch normalization without a scale, GELU.

    The convolution starts as the identity on its first channels.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, pool: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        nn.init.dirac_(self.conv.weight[: min(inputs, outputs)])
        self.norm = nn.BatchNorm2d(outputs, momentum=MOMENTUM)
        self.norm.weight.requires_grad_(False)  # the weights of the next convolution scale its inputs
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.gelu(self.norm(F.max_pool2d(x, 2) if self.pool else x))


class ResidualBlock(nn.Module):
    """Two convolution blocks of one width, whose output is added to their input."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.first, self.second = ConvBlock(width, width, kernel), ConvBlock(width, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + self.second(self.first(x))
        return output


class ResNet9(nn.Module):
    """Residual network that maps (batch, 3, 32, 32) images to (batch, classes) logits.

    The order of widths and residual blocks is that of Page's ResNet9. The fixed first layer, GELU, pooling before batch
    normalization and the initial convolutions are those of Jordan's airbench94.

    Args:
        classes: number of classes.
        scale: factor of the widths 128, 256 and 512.
        kernel: pixels per side of the convolutions, an odd number.
        flip: whether the output in eval mode is the mean over the image and its mirror image.

    Raises:
        UserError: for a scale that leaves a layer empty, and for an even kernel.
    """

    input_shape = (3, 32, 32)

    def __init__(self, classes: int = 10, scale: float = 1.0, kernel: int = 3, flip: bool = False):
        super().__init__()
        self.flip = flip
        widths = [round(scale * width) for width in (128, 256, 512)]
        if min(widths) < 1:
            raise UserError(f"ResNet9(scale={scale}): the first layer would be empty")
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"ResNet9(kernel={kernel}): an odd number is needed, which keeps the size of images")
        self.whiten = Whitening()
        self.layer1 = ConvBlock(self.whiten.conv.out_channels, widths[0], kernel, pool=True)
        self.residual1 = ResidualBlock(widths[0], kernel)
        self.layer2 = ConvBlock(widths[0], widths[1], kernel, pool=True)
        self.layer3 = ConvBlock(widths[1], widths[2], kernel, pool=True)
        self.residual3 = ResidualBlock(widths[2], kernel)
        self.fc = nn.Linear(widths[2], classes, bias=False)
        self.to(memory_format=torch.channels_last)  # the faster one for convolutions on a CPU

    def forward(self, x: Tensor) -> Tensor:
        return average_flips(self._logits, x) if self.flip and not self.training else self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        x = self.residual1(self.layer1(self.whiten(x)))
        x = self.residual3(self.layer3(self.layer2(x)))
        logits: Tensor = self.fc(F.max_pool2d(x, 3).flatten(1)) * LOGIT_SCALE
        return logits
