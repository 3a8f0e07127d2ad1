"""The small CIFAR-10 network: widths, sizes, and refusals."""

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.models import CifarCNN
from tests.models._counts import count_weights


def test_widths_and_sizes_scale():
    net = CifarCNN(scale=1.5)
    assert (net.conv1.out_channels, net.conv2.out_channels, net.fc1.out_features) == (48, 96, 192)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert CifarCNN(scale=0.5, size=16)(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    assert count_weights(CifarCNN()) == 3 * 32 * 25 + 32 * 64 * 25 + 64 * 64 * 128 + 128 * 10


@pytest.mark.parametrize("wrong", [{"size": 18}, {"size": 0}, {"scale": 0.0}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UserError, match="CifarCNN"):
        CifarCNN(**wrong)
