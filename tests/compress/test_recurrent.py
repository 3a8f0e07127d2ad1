"""Recurrent networks as linear layers, against PyTorch's."""

import copy

import pytest
import torch
from torch import nn

from pyro_vd.compress.recurrent import SplitRecurrent

NETS = {
    "LSTM": lambda **options: nn.LSTM(3, 4, **options),
    "GRU": lambda **options: nn.GRU(3, 4, **options),
    "RNN, tanh": lambda **options: nn.RNN(3, 4, **options),
    "RNN, relu": lambda **options: nn.RNN(3, 4, nonlinearity="relu", **options),
}
OPTIONS = [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False, "batch_first": True}]


def assert_same(one, other, x):
    (output, states), (expected, expected_states) = one(x), other(x)
    states = states if isinstance(states, tuple) else (states,)
    expected_states = expected_states if isinstance(expected_states, tuple) else (expected_states,)
    torch.testing.assert_close((output, states), (expected, expected_states), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@torch.no_grad()
def test_linear_layers_give_what_the_network_gives_and_go_back(make, options):
    net, x = make(**options).double(), torch.randn(5, 6, 3, dtype=torch.float64)
    split = SplitRecurrent(net)
    assert_same(split, net, x)
    other = make(**options).double()
    assert_same(split.merge_into(other), net, x)


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@torch.no_grad()
def test_fewer_units_are_what_is_left_of_the_network(make):
    """A unit whose rows are 0 stays at 0, and its columns are not needed."""
    net, x = make(num_layers=2).double(), torch.randn(5, 6, 3, dtype=torch.float64)
    split = SplitRecurrent(net)
    for name, layer in split.named_children():
        unit = torch.arange(len(layer.weight)) % 4
        net.get_parameter(f"weight_{name}")[unit == 1] = 0
        net.get_parameter(f"bias_{name}")[unit == 1] = 0
        layer.weight = nn.Parameter(layer.weight[unit != 1])
        layer.bias = nn.Parameter(layer.bias[unit != 1])
        if name != "ih_l0":
            layer.weight = nn.Parameter(layer.weight[:, [0, 2, 3]])
        layer.out_features = len(layer.weight)
    small = split.merge_into(copy.deepcopy(net))
    assert (small.hidden_size, small.input_size) == (3, 3)
    (output, _), (expected, _) = small(x), net(x)
    torch.testing.assert_close(output, expected[..., [0, 2, 3]])
    assert bool((expected[..., 1] == 0).all())


@torch.no_grad()
def test_a_bias_that_one_layer_gained_is_0_in_the_others():
    """PyTorch's networks have all biases or none."""
    net, x = nn.GRU(3, 4, bias=False), torch.randn(5, 6, 3)
    split = SplitRecurrent(net)
    split.ih_l0.bias = nn.Parameter(torch.randn(12))
    expected, _ = split(x)
    merged = split.merge_into(net)
    assert merged.bias
    assert not bool(merged.bias_hh_l0.any())
    torch.testing.assert_close(merged(x)[0], expected)
