"""Multiplications of a forward pass: closed forms for every kind of layer."""

import pytest
import torch
from torch import nn

from pyro_vd.compress import SelectedLinear, count_multiplications
from pyro_vd.errors import UserError
from pyro_vd.models import LeNet5, LeNet300


@pytest.mark.parametrize(("make", "multiplications"), [(LeNet300, 266_200), (LeNet5, 288_000 + 1_600_000 + 405_000)])
def test_multiplications_are_counted_by_position(make, multiplications):
    net = make().eval()
    image = torch.rand(1, 1, 28, 28)
    assert count_multiplications(net, image) == count_multiplications(net, image, sparse=True) == multiplications
    with torch.no_grad():
        next(net.parameters())[0] = 0  # a unit of the first layer, or a filter
    less = {LeNet300: 784, LeNet5: 0}[make]  # convolutions run dense
    assert count_multiplications(net, image, sparse=True) == multiplications - less
    assert count_multiplications(net, image) == multiplications


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Linear(5, 3), (5,), 15),
        (nn.Linear(5, 3), (7, 5), 7 * 15),  # at every position of a sequence
        (SelectedLinear(torch.tensor([0, 3]), 4), (9,), 8),
        (nn.Conv1d(4, 6, 3, groups=2), (4, 10), 8 * 6 * 2 * 3),
        (nn.Conv2d(2, 3, 3, stride=2), (2, 9, 9), 16 * 3 * 2 * 9),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 8 * 2 * 8),
        (nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 4, 4), 16 * 2 * 3 * 4),  # at every position of its inputs
        (nn.BatchNorm1d(5), (5,), 0),
    ],
)
def test_a_layer_multiplies_at_its_positions(layer, shape, expected):
    for size in (1, 4):
        assert count_multiplications(layer, torch.randn(size, *shape)) == expected


def test_a_layer_counts_every_time_that_it_is_called():
    layer = nn.Linear(4, 4)
    assert count_multiplications(nn.Sequential(layer, nn.ReLU(), layer), torch.randn(2, 4)) == 32


def test_the_network_is_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count_multiplications(net, torch.randn(3, 4))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net[0]._forward_hooks


def test_no_example_is_refused():
    with pytest.raises(UserError, match="the inputs hold no example"):
        count_multiplications(nn.Linear(4, 4), torch.zeros(0, 4))
