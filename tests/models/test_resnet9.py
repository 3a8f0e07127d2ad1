"""ResNet9: its layers, and refusals."""

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.models import ResNet9
from tests.models._counts import count_weights


def test_widths_scale():
    net = ResNet9(scale=0.125)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert [module.out_channels for module in net.modules() if hasattr(module, "out_channels")] == [
        8, 16, 16, 16, 32, 64, 64, 64
    ]  # fmt: skip
    with pytest.raises(UserError, match="ResNet9"):
        ResNet9(scale=0.0)


def test_it_has_eight_convolutions_and_a_linear_layer():
    widths = [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
    assert count_weights(ResNet9()) == sum(9 * a * b for a, b in widths) + 512 * 10
