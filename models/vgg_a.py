"""VGG-A for 32x32 images: 8 convolutions and 3 linear layers, with or without batch normalization."""

from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["VGGA"]

WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGGA(nn.Module):
    """The smallest VGG (configuration A of Simonyan and Zisserman 2015) that maps (batch, 3, 32, 32) images to
    (batch, classes) logits.

    Max-pooling follows every group of convolutions. The two hidden linear layers have 512 units; the original's have
    4096. All weights start as normal draws of variance 2 / inputs (He et al. 2015), and biases at 0: with PyTorch's
    default start, the signal fades in the deep network without batch normalization.

    Args:
        classes: number of classes.
        scale: factor of all widths.
        batch_norm: whether batch normalization follows every convolution.

    Raises:
        UserError: for a scale that leaves a layer empty.

    References:
        Very Deep Convolutional Networks for Large-Scale Image Recognition, https://arxiv.org/abs/1409.1556, table 1.
    """

    input_shape = (3, 32, 32)

    def __init__(self, classes: int = 10, scale: float = 1.0, batch_norm: bool = False):
        super().__init__()
        if round(scale * WIDTHS[0][0]) < 1:
            raise UserError(f"VGGA(scale={scale}): the first layer would be empty")
        layers: list[nn.Module] = []
        inputs = self.input_shape[0]
        for group in WIDTHS:
            for width in (round(scale * width) for width in group):
                norm = [nn.BatchNorm2d(width)] if batch_norm else []
                layers += [nn.Conv2d(inputs, width, 3, padding=1), *norm, nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc1, self.fc2 = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs)
        self.fc3 = nn.Linear(inputs, classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)
        logits: Tensor = self.fc3(self.fc2(self.fc1(x).relu()).relu())
        return logits


def _start(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
