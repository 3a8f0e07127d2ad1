"""Attention and recurrent layers are put in and taken out without a change of the network."""

import pytest
import torch
from torch import nn

from pyro_vd.compress.attention import SplitAttention
from pyro_vd.compress.recurrent import SplitRecurrent
from pyro_vd.compress.split_layers import merge_layers, split_layers
from pyro_vd.errors import UserError
from tests.compress._nets import Written, is_same_state


def run(net, x):
    x, _ = net.rnn(x)
    return net.attention(x, x, x)[0]


@torch.no_grad()
def test_layers_are_replaced_and_put_back():
    net = Written(run, rnn=nn.GRU(3, 4), attention=nn.MultiheadAttention(4, 2), norm=nn.LayerNorm(4)).eval()
    x, before = torch.randn(5, 6, 3), {key: value.clone() for key, value in net.state_dict().items()}
    own, expected = (net.rnn, net.attention), net(x)
    replaced = split_layers(net)
    assert replaced == {"rnn": own[0], "attention": own[1]}
    assert isinstance(net.rnn, SplitRecurrent)
    assert isinstance(net.attention, SplitAttention)
    assert not any(module.training for module in net.modules())
    torch.testing.assert_close(net(x), expected)
    merge_layers(net, replaced)
    assert (net.rnn, net.attention) == own
    assert is_same_state(net.state_dict(), before)


@pytest.mark.parametrize("net", [nn.GRU(3, 4), nn.MultiheadAttention(4, 2)])
def test_a_single_layer_is_refused(net):
    """There is nothing that it could be replaced in."""
    with pytest.raises(UserError, match=rf"single layer, {type(net).__name__}; give it a module that holds it"):
        split_layers(net)


def test_projections_are_refused_by_name():
    with pytest.raises(UserError, match=r"'0' \(LSTM with proj_size=2\) is not known .*; put a Linear after it"):
        split_layers(nn.Sequential(nn.LSTM(4, 4, proj_size=2)))
