"""The steps of a network: what is folded into layers, and what computes what the network does."""

import pytest
import torch
from torch import nn

from pyro_vd.compress import SelectedLinear
from pyro_vd.compress.c.graph import read_graph
from pyro_vd.compress.c.values import VALUES
from tests.compress._nets import Written


def kinds(graph):
    return [type(step).__name__ for step in graph.steps]


@torch.no_grad()
def test_batch_normalization_goes_into_the_layer_before_it():
    net = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4),
                        nn.BatchNorm1d(4)).eval()  # fmt: skip
    for norm in (net[1], net[5]):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.bias.normal_(), norm.weight.normal_()
    graph, x = read_graph(net, torch.randn(3, 2, 4, 4)), torch.randn(9, 2, 4, 4)
    assert kinds(graph) == ["Convolution", "Elementwise", "Linear"]
    torch.testing.assert_close(graph.run(x), net(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(graph.steps[0].weight == 0, net[0].weight == 0)


@torch.no_grad()
def test_a_layer_that_is_read_twice_stays_as_it_is():
    net = Written(lambda net, x: net.norm(h := net.layer(x)) + h, layer=nn.Linear(3, 4), norm=nn.BatchNorm1d(4)).eval()
    net.norm.running_mean.normal_()
    graph, x = read_graph(net, torch.randn(3, 3)), torch.randn(9, 3)
    assert kinds(graph) == ["Linear", "Affine", "Elementwise"]
    torch.testing.assert_close(graph.run(x), net(x))


@torch.no_grad()
def test_selected_inputs_are_columns_of_the_matrix():
    net = SelectedLinear(torch.tensor([5, 0, 2]), 4).eval()
    graph, x = read_graph(net, torch.randn(3, 7)), torch.randn(9, 7)
    (step,) = graph.steps
    assert step.weight.shape == (4, 7)
    assert torch.equal(step.weight[:, [5, 0, 2]], net.weight)
    assert not step.weight[:, [1, 3, 4, 6]].any()
    torch.testing.assert_close(graph.run(x), net(x))


@torch.no_grad()
def test_dropout_and_shapes_are_no_steps():
    net = nn.Sequential(nn.Dropout(), nn.Unflatten(1, (2, 3)), nn.Identity(), nn.Flatten(), nn.Linear(6, 2)).eval()
    assert kinds(read_graph(net, torch.randn(3, 6))) == ["Linear"]


@torch.no_grad()
def test_rounding_changes_weights_only():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).eval()
    graph = read_graph(net, torch.randn(3, 3))
    rounded = graph.rounded(VALUES["int8"])
    assert torch.equal(rounded.steps[0].weight, VALUES["int8"].round(net[0].weight, ""))
    assert torch.equal(rounded.steps[0].bias, net[0].bias)
    assert rounded.steps[1] == graph.steps[1]


@torch.no_grad()
def test_names_are_those_of_the_layers_and_differ():
    net = Written(lambda net, x: net.layer(net.layer(x)).relu().relu(), layer=nn.Linear(3, 3)).eval()
    names = [step.name for step in read_graph(net, torch.randn(3, 3)).steps]
    assert names == ["layer", "layer_2", "relu", "relu_1"]
    names = [step.name for step in read_graph(nn.Sequential(nn.Linear(3, 3)), torch.randn(3, 3)).steps]
    assert names == ["layer_0"]


@pytest.mark.parametrize("length", ["len(x)", "x.shape[0]", "-1"])
@torch.no_grad()
def test_the_batch_may_be_written_in_several_ways(length):
    net = Written(lambda _, x: x.view({"len(x)": len(x), "x.shape[0]": x.shape[0], "-1": -1}[length], 6).relu())
    graph, x = read_graph(net, torch.randn(5, 2, 3)), torch.randn(1, 2, 3)
    assert torch.equal(graph.run(x), net(x))
