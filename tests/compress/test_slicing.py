"""Slicing: layers that select their inputs, also of networks that are shrunk twice, and layers with nothing left."""

import copy

import pytest
import torch
from torch import nn

from pyro_vd.compress import SelectedLinear, architecture, shrink
from pyro_vd.models import LeNet5, LeNet300
from tests.compress._nets import assert_same_logits, count_parameters, prune_at_random


def test_inputs_that_nothing_reads_are_left_out():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight[:, 5:12] = 0
    small = shrink(net, torch.randn(4, 1, 4, 4))
    assert isinstance(small[1], SelectedLinear)
    assert architecture(small)["1"] == (9, 4)
    assert small[1].selected.tolist() == [*range(5), *range(12, 16)]
    assert_same_logits(net, small, torch.randn(8, 1, 4, 4))


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_a_shrunk_network_shrinks_again(make):
    """Pruned, shrunk, tuned, pruned: the second time there are layers that select their inputs."""
    inputs = torch.randn(8, 1, 28, 28)
    once = shrink(prune_at_random(make(), 0.7), inputs)
    assert any(isinstance(layer, SelectedLinear) for layer in once.modules())
    same = shrink(once, inputs)
    assert architecture(same) == architecture(once)
    assert_same_logits(once, same, inputs, 1e-6)
    pruned = prune_at_random(copy.deepcopy(once), 0.7, seed=1)
    twice = shrink(pruned, inputs)
    assert_same_logits(pruned, twice, inputs)
    assert count_parameters(twice) < count_parameters(once)


def test_a_layer_with_nothing_left_keeps_one_unit_and_the_logits():
    net = LeNet300().eval()
    with torch.no_grad():
        net.fc2.weight.zero_()
    inputs = torch.randn(4, 1, 28, 28)
    with pytest.warns(UserWarning, match="shrink: nothing is left of fc2; a higher threshold"):
        small = shrink(net, inputs)
    assert architecture(small)["fc2"] == (1, 1)
    assert_same_logits(net, small, inputs)
