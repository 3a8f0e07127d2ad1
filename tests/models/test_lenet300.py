"""LeNet-300-100: the size in the papers."""

import torch

from pyro_vd.models import LeNet300
from tests.models._counts import count_weights


def test_its_weights_are_those_of_the_papers():
    net = LeNet300()
    assert count_weights(net) == 784 * 300 + 300 * 100 + 100 * 10 == 266_200
    assert sum(parameter.numel() for parameter in net.parameters()) == 266_610  # "267K" of Han et al. 2015
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
