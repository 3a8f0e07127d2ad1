"""The LeNet for CIFAR-10: the tutorial's sizes, widths, and refusals."""

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.models import NETWORKS, CifarLeNet
from tests.models._counts import count_weights


def test_it_has_the_sizes_of_the_tutorial():
    net = NETWORKS["cifar_lenet"](10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 62_006
    assert count_weights(net) == 3 * 6 * 25 + 6 * 16 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    assert net(torch.zeros(2, *net.input_shape)).shape == (2, 10)


def test_widths_scale():
    net = CifarLeNet(scale=1.5)
    assert (net.conv1.out_channels, net.conv2.out_channels) == (9, 24)
    assert (net.fc1.out_features, net.fc2.out_features) == (180, 126)
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_scale_that_leaves_a_layer_empty_is_refused():
    with pytest.raises(UserError, match="CifarLeNet"):
        CifarLeNet(scale=0.05)
