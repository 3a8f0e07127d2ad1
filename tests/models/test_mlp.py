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


def test_the_initial_weights_have_the_standard_deviation_that_is_asked_for():
    torch.manual_seed(0)
    net = MLP(hidden=(400,), std=0.01)
    for layer in (net.fc1, net.fc2):
        count = layer.weight.numel()
        assert abs(layer.weight.std() / 0.01 - 1) < 4 / (2 * count) ** 0.5
        assert abs(layer.weight.mean()) < 4 * 0.01 / count**0.5
    assert net.fc1.bias.abs().max() > 0.03  # uniform up to 1 / 28
    assert MLP(hidden=(4,), std=0.0).fc1.weight.abs().max() == 0
    assert MLP(hidden=(4,)).fc1.weight.abs().max() > 0.03


def test_noise_is_added_to_every_hidden_unit_in_training_only():
    torch.manual_seed(0)
    quiet, noisy = MLP(hidden=(30, 20)), MLP(hidden=(30, 20), noise=0.5)
    noisy.load_state_dict(quiet.state_dict())
    x = torch.rand(2000, 1, 28, 28)
    torch.testing.assert_close(noisy.eval()(x), quiet(x))
    noisy.train()
    inputs = {}
    for name in ("fc2", "fc3"):
        getattr(noisy, name).register_forward_pre_hook(lambda _, given, name=name: inputs.update({name: given[0]}))
    noisy(x)
    for added in (inputs["fc2"] - noisy.fc1(x.flatten(1)).relu(), inputs["fc3"] - noisy.fc2(inputs["fc2"]).relu()):
        assert abs(added.std() / 0.5 - 1) < 4 / (2 * added.numel()) ** 0.5
        assert abs(added.mean()) < 4 * 0.5 / added.numel() ** 0.5


@pytest.mark.parametrize("changes", [{"std": -0.1}, {"std": float("nan")}, {"noise": -1.0}, {"noise": float("inf")}])
def test_a_standard_deviation_out_of_range_is_refused(changes):
    with pytest.raises(UserError, match="at least 0 and finite"):
        MLP(**changes)
