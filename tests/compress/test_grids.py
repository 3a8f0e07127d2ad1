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


@pytest.mark.parametrize("count", [(0, 8), ()])
def test_no_inputs_measure_no_change(problem, count):
    for call in (choose_step_sizes, lambda net, inputs: tune_on_grid(net, {"0.weight": 0.5}, inputs)):
        with pytest.raises(UserError, match=r"inputs of shape .* hold no example"):
            call(problem[0], torch.zeros(count))


@pytest.mark.parametrize("outputs", [nn.Linear(8, 1), nn.Sequential(nn.Linear(8, 1), nn.Flatten(0))])
def test_outputs_without_classes_need_a_divergence_of_their_own(problem, outputs):
    """The distribution of one class never changes, so every step would be allowed."""
    with pytest.raises(UserError, match=r"are not logits of classes; give divergence="):
        choose_step_sizes(outputs, problem[1])
    steps = choose_step_sizes(outputs, problem[1], divergence=lambda one, other: float((one - other).square().mean()))
    with pytest.raises(UserError, match=r"are not logits of classes; give divergence="):
        tune_on_grid(outputs, steps, problem[1])


class Quotient(nn.Module):
    """Its outputs are not finite if its only parameter is rounded to 0."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.3, 1.0]))

    def forward(self, x):
        return x[:, :2] / self.scale


def test_a_step_that_makes_outputs_nan_is_too_large(problem):
    steps = choose_step_sizes(Quotient(), problem[1], tolerance=1e6)
    assert quantize(Quotient(), steps)(problem[1]).isfinite().all()
    assert steps["scale"] == pytest.approx(0.5)  # the next one rounds 0.3 to 0


@pytest.mark.parametrize(
    ("divergence", "gives"),
    [
        (lambda one, other: (one - other).sum() * math.nan, "nan"),
        (lambda one, other: (one - other).square().sum(-1), r"a tensor of shape \(500,\)"),
        (lambda one, other: None, "None"),
    ],
)
def test_a_divergence_is_one_finite_number(problem, divergence, gives):
    with pytest.raises(UserError, match=f"divergence= of outputs from themselves is {gives}; it must be one finite"):
        choose_step_sizes(*problem, divergence=divergence)


@pytest.mark.parametrize("inputs", [(torch.zeros(2, 8),), {"input": torch.zeros(2, 8)}])
def test_inputs_are_one_tensor(problem, inputs):
    for call in (choose_step_sizes, lambda net, inputs: tune_on_grid(net, {"0.weight": 0.5}, inputs)):
        with pytest.raises(TypeError, match=r"inputs must be one tensor, not (tuple|dict)"):
            call(problem[0], inputs)


def test_a_network_that_does_not_give_one_tensor_is_refused(problem):
    with pytest.raises(UserError, match=r"does not run on inputs of shape \(500, 7\): mat1 and mat2"):
        choose_step_sizes(problem[0], problem[1][:, :7])
    with pytest.raises(UserError, match="returns a tuple, and one tensor is needed"):
        choose_step_sizes(nn.LSTM(8, 3), problem[1])


def test_integers_have_no_grid(problem):
    net = nn.Linear(8, 3)
    net.levels = nn.Parameter(torch.arange(3), requires_grad=False)
    assert list(choose_step_sizes(net, problem[1])) == ["weight", "bias"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs=-1 must be at least 0, and batch_size=100 at least 1"),
        ({"epochs": 1.5}, "epochs=1.5 must be a whole number"),
        ({"batch_size": 0}, "batch_size=0 at least 1"),
        ({"lr": math.nan}, "lr=nan must be a finite number"),
        ({"lr": math.inf}, "lr=inf must be a finite number"),
        ({"seed": 2**64}, "seed=18446744073709551616 must be from"),
        ({"step_sizes": {}}, "there are no step sizes; choose_step_sizes finds them"),
        ({"step_sizes": {"9.weight": 0.5}}, "parameters that the network does not have: 9.weight"),
    ],
)
def test_arguments_of_the_training_are_checked(problem, options, message):
    with pytest.raises(UserError, match=f"tune_on_grid: .*{message}"):
        tune_on_grid(problem[0], **{"step_sizes": {"0.weight": 0.5}, "inputs": problem[1]} | options)


def test_parameters_that_become_nan_are_not_returned(problem):
    net, inputs = problem
    inputs[-1] = math.nan
    with pytest.raises(UserError, match=r"0.weight became NaN or infinite; look for NaN in the inputs, or lower lr"):
        tune_on_grid(net, {"0.weight": 0.125}, inputs, divergence=squared, batch_size=len(inputs) - 1)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_needs_no_gradients_of_the_caller(problem, mode):
    net, inputs = problem
    steps = choose_step_sizes(net, inputs)
    with mode():
        tuned = tune_on_grid(net, steps, inputs)
    assert is_same_state(tuned.state_dict(), tune_on_grid(net, steps, inputs).state_dict())


def test_both_names_of_a_tied_parameter_are_one(problem):
    net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False))
    net[2].weight = net[0].weight
    both, one = (dict.fromkeys(names, 0.125) for names in (("0.weight", "2.weight"), ("0.weight",)))
    expected = tune_on_grid(net, one, problem[1])
    assert is_same_state(tune_on_grid(net, both, problem[1]).state_dict(), expected.state_dict())
    with pytest.raises(UserError, match=r"0\.weight and 2\.weight are one tensor, and their step sizes differ"):
        tune_on_grid(net, {"0.weight": 0.125, "2.weight": 0.25}, problem[1])
