"""Fully connected networks: widths, and the default of Kingma et al. 2015."""

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.models import MLP
from tests.models._counts import count_weights


def test_layers_have_the_widths_that_are_asked_for():
    assert [tuple(p.shape) for p in MLP(hidden=(5, 7)).parameters() if p.ndim == 2] == [(5, 784), (7, 5), (10, 7)]
    assert count_weights(MLP(3, hidden=())) == 3 * 784
    with pytest.raises(UserError, match="at least one unit"):
        MLP(hidden=(5, 0))


def test_the_default_has_three_equal_layers():
    net = MLP()
    assert count_weights(net) == 784 * 250 + 2 * 250**2 + 250 * 10
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_hidden_layers_have_relu_and_the_last_one_has_none():
    net, x = MLP(hidden=(4,)), torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(net(x), net.fc2(net.fc1(x.flatten(1)).clamp(min=0)))
