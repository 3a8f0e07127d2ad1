"""Tracing: producers and consumers of each channel, and networks that torch.fx cannot trace."""

import pytest
import torch
from torch import nn

from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.compress.trace_channels import trace_channels
from pyro_vd.errors import UserError
from tests.compress._nets import Written


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else self.fc(-x)


def test_a_network_that_cannot_be_traced_is_refused_and_untouched():
    net = Branching()
    before = net.fc.weight.clone()
    with pytest.raises(UserError, match="Branching cannot be traced"):
        trace_channels(net, torch.randn(3, 4))
    assert torch.equal(net.fc.weight, before)


def test_channels_of_a_residual_network():
    net = Written(
        lambda net, x: net.head(net.norm(net.stem(x) + net.block(x))),
        stem=nn.Linear(4, 3),
        block=nn.Linear(4, 3),
        norm=nn.BatchNorm1d(3),
        head=nn.Linear(3, 2),
    ).eval()
    channels = trace_channels(net, torch.randn(5, 4))
    assert channels.producers["stem"] == channels.producers["block"] == channels.norms["norm"]
    assert channels.consumers["head"] == channels.producers["stem"]
    assert channels.consumers["stem"] == channels.consumers["block"]
    assert channels.protected == {*channels.consumers["stem"], *channels.producers["head"]}
    assert not channels.protected & set(channels.producers["stem"])


def test_a_layer_that_selects_consumes_what_it_selects():
    net = nn.Sequential(nn.Linear(4, 3), SelectedLinear(torch.tensor([2, 0]), 2))
    channels = trace_channels(net, torch.randn(5, 4))
    made = channels.producers["0"]
    assert channels.selectable["1"] == made
    assert channels.consumers["1"] == [made[2], made[0]]
