"""The VGG of the sparse variational dropout papers, for 32x32 images: 13 convolutions and two dense layers."""

from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["VGG"]

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = 512


class VGG(nn.Module):
    """VGG that maps (batch, 3, 32, 32) images to (batch, classes) logits.

    Batch normalization follows every convolution and the hidden layer, max-pooling every group of convolutions
    (Zagoruyko 2015; the network of Molchanov et al. 2017, section 5.5).

    Args:
        classes: number of classes.
        scale: factor of all widths.

    Raises:
        UserError: for a scale that leaves a layer empty.
    """

    input_shape = (3, 32, 32)

    def __init__(self, classes: int = 10, scale: float = 1.0):
        super().__init__()
        if round(scale * WIDTHS[0][0]) < 1:
            raise UserError(f"VGG(scale={scale}): the first layer would be empty")
        layers: list[nn.Module] = []
        inputs = self.input_shape[0]
        for group in WIDTHS:
            for width in (round(scale * width) for width in group):
                layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        hidden = round(scale * HIDDEN)
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU())
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.hidden(self.features(x).flatten(1)))
        return logits
