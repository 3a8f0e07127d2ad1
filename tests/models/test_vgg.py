"""The VGG: the layers and the size of the papers' network."""

import pytest
import torch
from torch import nn

from pyro_vd.errors import UserError
from pyro_vd.models import VGG
from tests.models._counts import count_weights


def test_it_has_the_papers_layers():
    net = VGG(scale=0.125)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    layers = [m for m in VGG().modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 15
    assert sum(layer.weight.numel() for layer in layers) == count_weights(VGG()) == 14_977_728
    with pytest.raises(UserError, match="empty"):
        VGG(scale=0.001)
