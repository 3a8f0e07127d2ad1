"""LeNet-5-Caffe: the size in the papers."""

import torch

from pyro_vd.models import LeNet5
from tests.models._counts import count_weights


def test_its_weights_are_those_of_the_papers():
    net = LeNet5()
    assert count_weights(net) == 20 * 25 + 50 * 20 * 25 + 800 * 500 + 500 * 10 == 430_500
    assert sum(parameter.numel() for parameter in net.parameters()) == 431_080  # "431K" of Han et al. 2015
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
