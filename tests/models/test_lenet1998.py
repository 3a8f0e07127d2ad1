"""The LeNet-5 of 1998: its size, and what its third convolution is."""

import torch

from pyro_vd.models import LeNet1998
from tests.models._counts import count_weights


def test_its_weights():
    net = LeNet1998()
    assert count_weights(net) == 6 * 25 + 16 * 6 * 25 + 120 * 16 * 25 + 84 * 120 + 10 * 84 == 61_470
    assert sum(parameter.numel() for parameter in net.parameters()) == 61_706  # of the usual modern variant
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert LeNet1998(3)(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


def test_its_third_convolution_has_one_pixel():
    net = LeNet1998()
    seen = []
    net.conv3.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    net(torch.zeros(1, 1, 28, 28))
    assert seen == [(1, 120, 1, 1)]
