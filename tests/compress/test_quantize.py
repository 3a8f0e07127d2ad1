"""Grids for weights: the width where a finer one stops paying, and what rounding does."""

import math

import pytest
import torch

import pyro_vd
from pyro_vd import guides
from pyro_vd.compress import bit_widths, int8_step_sizes, posterior_step_sizes, quantize, round_to_float16
from pyro_vd.errors import UserError


@pytest.fixture
def posterior():
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    model = pyro_vd.lift(net, pyro_vd.LogUniform, pyro_vd.Categorical, num_data=100)
    guide = guides.sparse.Guide(model)
    with torch.no_grad():
        for log_sigma2 in guide.log_sigma2.parameters():
            log_sigma2.uniform_(-8, -2)
    return pyro_vd.Posterior(model, guide)


def cost(step, variance):
    """Nats per weight: of the error, uniform in a cell, under the posterior's curvature, and of naming a cell."""
    errors = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 - 0.5
    second_moment = (errors * step).square().mean()
    return (second_moment / (2 * variance.double())).mean().item() - math.log(step)


def test_the_step_is_where_error_and_code_together_are_shortest(posterior):
    masks = posterior.masks(3.0)
    steps = posterior_step_sizes(posterior, masks)
    for site, step in steps.items():
        variance = posterior.guide.q(site).variance[masks[site]].detach()
        assert cost(step, variance) < min(cost(1.1 * step, variance), cost(step / 1.1, variance))


def test_only_kept_weights_count(posterior):
    masks = {site: torch.ones_like(mask) for site, mask in posterior.masks(3.0).items()}
    before = posterior_step_sizes(posterior, masks)["0.weight"]
    with torch.no_grad():
        posterior.guide.log_sigma2["0.weight"][0] = -15.0
    assert posterior_step_sizes(posterior, masks)["0.weight"] < before / 2
    masks["0.weight"][0] = False
    assert posterior_step_sizes(posterior, masks)["0.weight"] == pytest.approx(before, rel=0.2)


def test_rounding_moves_no_weight_by_more_than_half_a_step_and_keeps_zeros(posterior):
    net = posterior.mean(posterior.masks(0.0))
    rounded = quantize(net, {"0.weight": 0.03})
    moved = (rounded[0].weight - net[0].weight).abs()
    assert 0 < moved.max() <= 0.015 * (1 + 1e-5)
    assert torch.equal(rounded[2].weight, net[2].weight)
    assert (rounded[0].weight[net[0].weight == 0] == 0).all()
    cells = rounded[0].weight / 0.03
    torch.testing.assert_close(cells, cells.round(), atol=1e-4, rtol=0)


def test_bits_hold_every_cell_and_its_sign():
    net = torch.nn.Linear(3, 1, bias=False)
    for cells, needed in (((0, 0, 0), 1), ((1, 0, -1), 2), ((3, 0, 0), 3), ((-4, 0, 0), 4), ((127, 0, -127), 8)):
        with torch.no_grad():
            net.weight.copy_(0.5 * torch.tensor([cells]))
        assert bit_widths(net, {"weight": 0.5}) == {"weight": needed}


def test_int8_reaches_127(posterior):
    net = posterior.mean()
    steps = int8_step_sizes(net)
    assert steps.keys() == {"0.weight", "2.weight"}
    assert all(value <= 8 for value in bit_widths(quantize(net, steps), steps).values())
    assert net[0].weight.abs().max().item() / steps["0.weight"] == pytest.approx(127)
    with torch.no_grad():
        net[0].weight.zero_()
    assert (quantize(net, int8_step_sizes(net))[0].weight == 0).all()


def test_no_grid_without_noise_or_weights(posterior):
    nothing = {site: torch.zeros_like(mask) for site, mask in posterior.masks(3.0).items()}
    with pytest.raises(UserError, match=r"'0.weight': no weight is kept"):
        posterior_step_sizes(posterior, nothing)
    model = pyro_vd.lift(torch.nn.Linear(3, 2), guides.none.prior, pyro_vd.Categorical, num_data=10)
    point = pyro_vd.Posterior(model, guides.none.Guide(model))
    with pytest.raises(TypeError, match="'weight': Delta"):
        posterior_step_sizes(point, {"weight": torch.ones(2, 3, dtype=torch.bool)})


def test_a_grid_is_of_the_noise_that_each_weight_has_for_itself():
    """Of a group's weights, not of their shared scale; and none where all noise is of units."""
    net = torch.nn.Linear(3, 2)
    model = pyro_vd.lift(net, guides.group_normal_jeffreys.prior, pyro_vd.Categorical, num_data=10)
    group = pyro_vd.Posterior(model, guides.group_normal_jeffreys.Guide(model))
    mask = {"weight": torch.ones(2, 3, dtype=torch.bool)}
    q = group.guide.q("weight")
    own = (q.on_weights(q.noise.mean.square()) * q.weight.variance).detach()
    step = posterior_step_sizes(group, mask)["weight"]
    assert step == pytest.approx(math.sqrt(12 / (1 / own.double()).mean().item()))
    assert (own < q.variance).all()
    model = pyro_vd.lift(net, guides.variational_a.prior, pyro_vd.Categorical, num_data=10)
    with pytest.raises(TypeError, match="'weight': InputNoise has no variance per weight"):
        posterior_step_sizes(pyro_vd.Posterior(model, guides.variational_a.Guide(model)), mask)


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_a_step_that_makes_no_grid_is_refused(step):
    with pytest.raises(UserError, match="the step size of weight is"):
        quantize(torch.nn.Linear(2, 2), {"weight": step})


def test_float16_refuses_what_it_cannot_hold():
    net = torch.nn.Linear(2, 2)
    rounded = round_to_float16(net)
    assert torch.equal(rounded.weight, net.weight.half().float())
    with torch.no_grad():
        net.weight[0, 0] = 1e6
    with pytest.raises(UserError, match="weight goes beyond"):
        round_to_float16(net)


@pytest.mark.parametrize(
    ("step_sizes", "message"),
    [
        ({"fc9.weight": 0.5}, r"parameters that the network does not have: fc9\.weight"),
        ({"running_mean": 0.5}, "parameters that the network does not have: running_mean"),
        ({"weight": "0.5"}, "the step size of weight is '0.5'; it must be above 0 and finite"),
        (["weight"], "the step sizes are a list; give a dict"),
    ],
)
def test_what_is_no_step_size_of_a_parameter_is_refused(step_sizes, message):
    with pytest.raises(UserError, match=f"quantize: .*{message}"):
        quantize(torch.nn.BatchNorm1d(3), step_sizes)
