"""VGG-A: the original's convolutions, with and without batch normalization, a start at which the signal neither fades
nor grows, and refusals."""

import pytest
import torch
from torch import nn

from pyro_vd.errors import UserError
from pyro_vd.models import NETWORKS, VGGA
from tests.models._counts import count_weights

CONVOLUTIONS = ((3, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512))


def test_it_has_the_convolutions_of_configuration_a():
    net = NETWORKS["vgg_a"](10)
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == list(CONVOLUTIONS)
    assert {(layer.kernel_size, layer.padding) for layer in convolutions} == {((3, 3), (1, 1))}
    assert count_weights(net) == sum(9 * a * b for a, b in CONVOLUTIONS) + 2 * 512 * 512 + 512 * 10
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in net.modules()) == 5


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_follows_every_convolution_or_none(batch_norm):
    layers = list(VGGA(7, scale=0.125, batch_norm=batch_norm).features)
    after = [layers[i + 1] for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    assert {type(layer) for layer in after} == {nn.BatchNorm2d if batch_norm else nn.ReLU}
    assert VGGA(7, 0.125, batch_norm)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_the_signal_neither_fades_nor_grows_at_the_start():
    torch.manual_seed(0)
    net, x = VGGA(scale=0.25), torch.randn(16, 3, 32, 32)
    assert 0.2 < net(x).std() < 5
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()  # PyTorch's default
    with torch.no_grad():
        faded = net(x)
    assert (faded - faded.mean(0)).std() < 0.01  # the logits hardly depend on the image


def test_a_scale_that_leaves_a_layer_empty_is_refused():
    with pytest.raises(UserError, match="VGGA"):
        VGGA(scale=0.005)
