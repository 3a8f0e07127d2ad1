"""Outputs in float64: of networks that run in it, and of those that do not."""

import torch
from torch import nn

from pyro_vd.compress.rounding import outputs_in_float64


class FixedType(nn.Linear):
    def forward(self, x):
        return super().forward(x) @ torch.eye(2)


def test_outputs_are_those_of_the_same_weights_in_float64():
    net, x = nn.Sequential(nn.Linear(3, 2), nn.Dropout()), torch.randn(4, 3)
    expected = x.double() @ net[0].weight.double().T + net[0].bias.double()
    torch.testing.assert_close(outputs_in_float64(net, x), [expected], rtol=1e-14, atol=1e-14)
    assert net[0].weight.dtype == torch.float32
    assert net.training


def test_a_network_that_does_not_run_in_float64_has_none():
    assert outputs_in_float64(FixedType(3, 2), torch.randn(4, 3)) is None
