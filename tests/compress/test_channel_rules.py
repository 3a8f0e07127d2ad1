"""Rules for channels: what passes, merges and protects them, and refusals that name an unknown layer or operation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyro_vd.compress import architecture, shrink
from pyro_vd.errors import UserError
from tests.compress._nets import Written, assert_same_logits, prune_at_random


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two, self.head = (nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.two(self.one(x).relu()))


def test_an_addition_ties_its_terms():
    """A channel goes only where every term of the sum is still and every reader of it can do without."""
    net = Residual()
    with torch.no_grad():
        net.two.weight[1] = 0
        net.head.weight[:, 2] = 0
    assert architecture(shrink(net, torch.randn(8, 6)))["stem"] == (6, 5)
    with torch.no_grad():
        net.stem.weight[1] = 0  # now both terms are still
        net.one.weight[:, 2] = 0  # now nothing reads the other
    small = shrink(net, torch.randn(8, 6))
    assert architecture(small) == {"stem": (6, 3), "one": (3, 5), "two": (5, 3), "head": (3, 2)}
    assert_same_logits(net, small, torch.randn(8, 6))


def test_concatenation_keeps_its_parts_apart():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 4, 3), nn.Linear(7, 2)

        def forward(self, x):
            return self.head(torch.cat([self.one(x).relu(), self.two(x)], dim=1).mean((2, 3)))

    net = Branches()
    with torch.no_grad():
        net.head.weight[:, [1, 4, 5]] = 0
    small = shrink(net, torch.randn(4, 1, 6, 6))
    assert architecture(small) == {"one": (1, 2), "two": (1, 2), "head": (4, 2)}


class OneOutput(nn.Module):
    """A network of one output whose axis is taken away, for targets of shape (n,)."""

    def __init__(self, take_away, outputs=1):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, outputs)
        self.take_away = take_away

    def forward(self, x):
        return self.take_away(self.fc2(self.fc1(x).relu())) * 2.0


REMOVALS = {
    "squeeze(-1)": lambda y: y.squeeze(-1),
    "squeeze(1)": lambda y: y.squeeze(1),
    "squeeze()": lambda y: y.squeeze(),
    "torch.squeeze": lambda y: torch.squeeze(y, 1),
    "[:, 0]": lambda y: y[:, 0],
    "view(-1)": lambda y: y.view(-1),
    "flatten()": lambda y: y.flatten(),
    "flatten(0)": lambda y: y.flatten(0),
    "select": lambda y: y.select(1, 0),
}


# Mutant: what takes the last axis away is refused, and a regression of the usual repair cannot be shrunk.
@pytest.mark.parametrize("name", REMOVALS)
def test_the_axis_of_a_single_output_may_be_taken_away(name):
    net = prune_at_random(OneOutput(REMOVALS[name]), keep=0.7)
    inputs = torch.randn(16, 6)
    small = shrink(net, inputs)
    assert small.fc1.out_features < 8
    assert small(inputs).shape == (16,)
    assert_same_logits(net, small, inputs)


@pytest.mark.parametrize("name", ["[:, 0]", "view(-1)", "select"])
def test_one_of_several_outputs_is_refused(name):
    with pytest.raises(UserError, match="not known to keep channels apart"):
        shrink(OneOutput(REMOVALS[name], outputs=2), torch.randn(16, 6))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.fc(self.fc(x)))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.scale, self.head = nn.Linear(4, 4), nn.Parameter(torch.ones(4)), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.fc(x) * self.scale)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(F.layer_norm(self.fc(x), (4,)))


def halves(net, x):
    one, other = net.fc(x).chunk(2, 1)
    return net.head(one * other.sigmoid())


def summed(net, x):
    """What a dead channel sums to depends on the size of the image."""
    return net.head(net.conv(x).relu().sum((2, 3)))


def joined(net, x):
    return net.fc(torch.cat([x, net.own], 1))


def centered(net, x):
    """One channel becomes three."""
    return net.conv(x - net.own).flatten(1)


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    return net


@pytest.mark.parametrize(
    ("net", "shape", "named"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), (3, 4), r"layer '1' \(LayerNorm\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), nn.Linear(4, 2)), (3, 4), r"layer '1' \(PReLU\)"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten()), (3, 4, 5, 5), "Conv2d with groups=2"),
        (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten()), (3, 2, 5, 5), "Conv2d with groups=2"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), (3, 5, 4), r"layer '0' \(Linear on an input of 3 axes\)"),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 2, 3)), (3, 4, 5, 5), r"layer '1' \(ConvTranspose2d"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), (3, 4), "without running"),
        (Twice(), (3, 4), "layer 'fc', which is used more than once"),
        (Own(), (3, 4), "'scale', a tensor of the network's own"),
        (Functional(), (3, 4), "operation 'layer_norm'"),
        (Written(halves, fc=nn.Linear(4, 4), head=nn.Linear(2, 2)), (3, 4), "operation 'chunk', which gives several"),
        (Written(summed, conv=nn.Conv2d(2, 4, 3), head=nn.Linear(4, 2)), (3, 2, 5, 5), "operation 'sum'"),
        (Written(joined, own=nn.Parameter(torch.ones(3, 2)), fc=nn.Linear(6, 2)), (3, 4), "operation 'cat'"),
        (Written(centered, own=nn.Parameter(torch.ones(3, 1, 1)), conv=nn.Conv2d(3, 2, 5)), (3, 1, 5, 5), "'sub'"),
        (tied(), (3, 4), "layer '1', whose weight is another layer's too"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name_and_untouched(net, shape, named):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError, match=named):
        shrink(net, torch.randn(shape))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_a_pool_over_units_is_refused():
    """PyTorch reads (examples, units) as one example of so many channels, and pools over the units."""
    net = nn.Sequential(nn.Linear(4, 6), nn.MaxPool1d(2), nn.Linear(3, 2)).eval()
    with pytest.raises(UserError, match=r"operation 'maxpool1d' on an input of shape \(3, 6\)"):
        shrink(net, torch.randn(3, 4))
