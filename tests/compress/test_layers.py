"""Layers: which are depthwise, and their numbers of inputs and outputs."""

import torch
from torch import nn

from pyro_vd.compress import architecture
from pyro_vd.compress.layers import is_depthwise, set_sizes


def test_sizes_of_other_layers_are_their_own():
    net = nn.ModuleDict({"up": nn.ConvTranspose2d(4, 3, 2), "grouped": nn.Conv2d(4, 6, 1, groups=2)})
    assert architecture(net) == {"up": (4, 3), "grouped": (4, 6)}


def test_depthwise_convolutions_have_one_output_for_one_input():
    assert is_depthwise(nn.Conv2d(4, 4, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 8, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 4, 3, groups=2))
    assert not is_depthwise(nn.Conv2d(4, 4, 3))
    assert not is_depthwise(nn.Linear(4, 4))


def test_sizes_follow_the_weight():
    linear, conv, depthwise = nn.Linear(4, 3), nn.Conv1d(4, 3, 5), nn.Conv1d(4, 4, 5, groups=4)
    for layer, shape in ((linear, (2, 1)), (conv, (2, 1, 5)), (depthwise, (2, 1, 5))):
        layer.weight = nn.Parameter(torch.zeros(shape))
        set_sizes(layer)
    assert (linear.in_features, linear.out_features) == (1, 2)
    assert (conv.in_channels, conv.out_channels, conv.groups) == (1, 2, 1)
    assert depthwise.in_channels == depthwise.out_channels == depthwise.groups == 2
