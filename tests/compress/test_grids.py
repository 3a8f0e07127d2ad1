"""Grids: as coarse as the predictions allow, the same cost everywhere; training on them stays on them."""

import math

import pytest
import torch
from torch import nn

from pyro_vd.compress import choose_step_sizes, quantize, tune_on_grid
from pyro_vd.compress.grids import categorical_divergence
from pyro_vd.errors import UserError
from tests.compress._nets import is_same_state


def squared(expected, outputs):
    return (outputs - expected).square().sum(-1).mean()


@pytest.fixture
def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    with torch.no_grad():
        net[0].weight *= 3 * (torch.rand(16, 8) < 0.5)
        net[2].weight *= 3
    return net, torch.randn(500, 8)


def test_the_divergence_is_that_of_torch():
    one, other = torch.randn(7, 5), torch.randn(7, 5)
    p, q = torch.distributions.Categorical(logits=one), torch.distributions.Categorical(logits=other)
    assert categorical_divergence(one, other).item() == pytest.approx(
        torch.distributions.kl_divergence(p, q).mean().item(), rel=1e-5
    )


@pytest.mark.parametrize("tolerance", [1e-4, 1e-2])
def test_each_parameter_uses_its_share_and_no_more(problem, tolerance):
    net, inputs = problem
    steps = choose_step_sizes(net, inputs, tolerance)
    counts = {name: int(parameter.count_nonzero()) for name, parameter in net.named_parameters()}
    assert list(steps) == list(counts)
    with torch.no_grad():
        for name, step in steps.items():
            change = categorical_divergence(net(inputs), quantize(net, {name: step})(inputs)).item()
            share = tolerance * counts[name] / sum(counts.values())
            assert share / 20 < change <= share
        assert categorical_divergence(net(inputs), quantize(net, steps)(inputs)).item() < 3 * tolerance


def test_a_finer_tolerance_makes_finer_grids_by_its_root(problem):
    """The change grows with the square of the step."""
    net, inputs = problem
    coarse, fine = choose_step_sizes(net, inputs, 1e-3), choose_step_sizes(net, inputs, 1e-5)
    ratios = [coarse[name] / fine[name] for name in coarse]
    assert math.prod(ratios) ** (1 / len(ratios)) == pytest.approx(10, rel=0.4)


def test_step_sizes_are_round_numbers_and_leave_the_network_alone(problem):
    net, inputs = problem
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for step in choose_step_sizes(net, inputs).values():
        assert math.frexp(step)[0] * 8 % 1 == 0
    assert is_same_state(before, net.state_dict())


def test_outputs_of_any_kind_have_a_divergence_of_their_own():
    """Of a bias, squared differences are those of the bias: the step is the largest with an error below the share."""
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor([0.3, 0.7]))
    steps = choose_step_sizes(net, torch.randn(10, 2), 2e-2, divergence=squared)
    rounded = (net.bias / steps["bias"]).round() * steps["bias"]
    assert (rounded - net.bias).square().sum() <= 2e-2
    assert steps["bias"] >= 0.1


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan])
def test_a_tolerance_that_is_none_is_refused(problem, tolerance):
    with pytest.raises(UserError, match="must be above 0"):
        choose_step_sizes(*problem, tolerance)


def test_outputs_that_are_not_finite_are_refused(problem):
    net, inputs = problem
    with pytest.raises(UserError, match="NaN or infinite"):
        choose_step_sizes(net, inputs / 0)


def test_training_stays_on_the_grid_and_comes_nearer(problem):
    net, inputs = problem
    steps = choose_step_sizes(net, inputs, 0.3)
    rounded, before = quantize(net, steps), {name: tensor.clone() for name, tensor in net.state_dict().items()}
    tuned = tune_on_grid(net, steps, inputs, epochs=20, batch_size=50)
    for name, parameter in tuned.named_parameters():
        assert torch.equal((parameter / steps[name]).round() * steps[name], parameter)
        assert not parameter[rounded.get_parameter(name) == 0].any()
    with torch.no_grad():
        expected = net(inputs)
        nearer = categorical_divergence(expected, tuned(inputs))
        assert nearer < 0.8 * categorical_divergence(expected, rounded(inputs))
    assert is_same_state(before, net.state_dict())
    assert not tuned.training
    again = tune_on_grid(net, steps, inputs, epochs=20, batch_size=50)
    assert is_same_state(again.state_dict(), tuned.state_dict())


def test_no_epochs_round_only(problem):
    net, inputs = problem
    steps = choose_step_sizes(net, inputs)
    assert is_same_state(tune_on_grid(net, steps, inputs, epochs=0).state_dict(), quantize(net, steps).state_dict())
