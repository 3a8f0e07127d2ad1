"""A linear layer on some of its inputs."""

import torch

from pyro_vd.compress import SelectedLinear


def test_it_is_a_linear_layer_on_the_selected_inputs():
    layer, x = SelectedLinear(torch.tensor([4, 1]), 3), torch.randn(6, 5)
    assert (layer.in_features, layer.out_features) == (2, 3)
    assert torch.equal(layer.read(x), x[:, [4, 1]])
    torch.testing.assert_close(layer(x), x[:, [4, 1]] @ layer.weight.T + layer.bias)
    assert SelectedLinear(torch.tensor([0]), 3, bias=False).bias is None


def test_the_indices_are_a_copy_that_is_saved():
    selected = torch.tensor([4, 1])
    layer = SelectedLinear(selected, 3)
    selected[0] = 0
    assert layer.state_dict()["selected"].tolist() == [4, 1]
