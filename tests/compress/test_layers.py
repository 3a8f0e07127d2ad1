"""Layers: their weights as groups, and their numbers of inputs and outputs."""

import pytest
import torch
from torch import nn

from pyro_vd.compress import architecture
from pyro_vd.compress.layers import as_groups, from_groups, set_sizes


def test_sizes_of_other_layers_are_their_own():
    net = nn.ModuleDict({"up": nn.ConvTranspose2d(4, 3, 2), "grouped": nn.Conv2d(4, 6, 1, groups=2)})
    assert architecture(net) == {"up": (4, 3), "grouped": (4, 6)}


LAYERS = [
    (nn.Linear(4, 6), (1, 6, 4)),
    (nn.Conv2d(4, 6, 3), (1, 6, 4, 3, 3)),
    (nn.Conv1d(4, 6, 3, groups=2), (2, 3, 2, 3)),
    (nn.ConvTranspose2d(4, 6, 3), (1, 6, 4, 3, 3)),
    (nn.ConvTranspose1d(4, 6, 3, groups=2), (2, 3, 2, 3)),
    (nn.Embedding(5, 3), (1, 3, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_a_weight_is_seen_as_groups_of_outputs_and_inputs(layer, shape):
    grouped = as_groups(layer)
    assert grouped.shape == shape
    assert torch.equal(from_groups(layer, grouped), layer.weight)
    with torch.no_grad():
        grouped[:, 0] = 0  # a view
    assert (layer.weight == 0).sum() == layer.weight.numel() // shape[1]


def test_sizes_follow_the_weight():
    linear, conv, depthwise = nn.Linear(4, 3), nn.Conv1d(4, 3, 5), nn.Conv1d(4, 4, 5, groups=4)
    up, grouped_up = nn.ConvTranspose1d(4, 3, 5), nn.ConvTranspose1d(6, 4, 5, groups=2)
    shapes = {
        linear: (2, 1), conv: (2, 1, 5), depthwise: (2, 1, 5), up: (1, 2, 5), grouped_up: (3, 2, 5),
    }  # fmt: skip
    for layer, shape in shapes.items():
        layer.weight = nn.Parameter(torch.zeros(shape))
        set_sizes(layer)
    assert (linear.in_features, linear.out_features) == (1, 2)
    assert (conv.in_channels, conv.out_channels, conv.groups) == (1, 2, 1)
    assert depthwise.in_channels == depthwise.out_channels == depthwise.groups == 2
    assert (up.in_channels, up.out_channels, up.groups) == (1, 2, 1)
    assert (grouped_up.in_channels, grouped_up.out_channels, grouped_up.groups) == (3, 2, 1)


def test_sizes_of_normalization_follow_its_tensors():
    group, batch, slopes = nn.GroupNorm(4, 8), nn.BatchNorm1d(8, affine=False), nn.PReLU(8)
    group.weight, slopes.weight = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(6))
    batch.running_mean = torch.zeros(6)
    for module in (group, batch, slopes):
        set_sizes(module)
    assert (group.num_groups, group.num_channels) == (3, 6)
    assert batch.num_features == slopes.num_parameters == 6
