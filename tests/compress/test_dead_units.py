"""Dead units: both rules, their consequences, and constants that a bias can or cannot stand for."""

import copy

import pytest
import torch
from torch import nn

from pyro_vd.compress import architecture, shrink
from tests.compress._nets import Written, assert_same_logits


def test_what_nothing_reads_goes():
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        net[2].weight[:, [1, 3]] = 0
    small = shrink(net, torch.randn(8, 4))
    assert architecture(small) == {"0": (4, 3), "2": (3, 3)}
    assert torch.equal(small[0].weight, net[0].weight[[0, 2, 4]])


def test_a_constant_goes_into_the_next_bias():
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    with torch.no_grad():
        net[0].weight[2] = 0
        net[0].bias[2] = 1.5
    small = shrink(net, torch.randn(8, 4))
    torch.testing.assert_close(small[2].bias, 1.5 * net[2].weight[:, 2])
    assert architecture(small)["0"] == (4, 4)


def test_removals_run_on_until_there_are_none():
    """The unit that is constant takes the unit that reads only it with it, and so on to the output."""
    net = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(3, 3), nn.Tanh())], nn.Linear(3, 2))
    with torch.no_grad():
        for layer in net[:-1:2]:
            layer.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, 1], [0, 1, 3]]))
        net[0].weight[0] = 0
    small = shrink(net, torch.randn(8, 3))
    assert [architecture(small)[str(index)][1] for index in (0, 2, 4, 6)] == [2, 2, 2, 2]
    assert_same_logits(net, small, torch.randn(16, 3))
    chain = copy.deepcopy(net)
    with torch.no_grad():
        chain[0].weight.copy_(net[2].weight)
        chain[8].weight[:, 0] = 0  # now nothing reads the last one, so nothing reads the one before
    assert [architecture(shrink(chain, torch.randn(8, 3)))[str(index)][1] for index in (0, 2, 4, 6)] == [2, 2, 2, 2]


@pytest.mark.parametrize(("bias", "removed"), [(-1.0, True), (1.0, False)])
def test_a_constant_before_zero_padding_stays_unless_it_is_zero(bias, removed):
    """Padding makes of a constant something that is none at the border; a bias cannot say that."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 2))
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = bias
    inputs = torch.randn(4, 1, 6, 6)
    small = shrink(net, inputs)
    assert architecture(small)["0"][1] == (2 if removed else 3)
    assert_same_logits(net, small, inputs)


@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
def test_padding_with_the_constant_itself_keeps_it_constant(padding_mode):
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Sigmoid(), nn.Conv2d(3, 2, 3, padding=1, padding_mode=padding_mode), nn.Flatten()
    )
    with torch.no_grad():
        net[0].weight[1] = 0
    inputs = torch.randn(4, 1, 6, 6)
    small = shrink(net, inputs)
    assert architecture(small)["0"][1] == 2
    assert_same_logits(net, small, inputs)


def test_a_layer_that_reads_two_constants_keeps_the_unit():
    """A unit gives one number at each of two calls, and no bias can stand for both."""
    net = Written(
        lambda net, x: net.head(net.made(x)).relu() + net.head(net.made(x).relu()),
        made=nn.Linear(4, 3), head=nn.Linear(3, 2),
    )  # fmt: skip
    with torch.no_grad():
        net.made.weight[1] = 0
        net.made.bias[1] = -1.0
    small = shrink(net, torch.randn(6, 4))
    assert architecture(small) == {"made": (4, 3), "head": (3, 2)}
    assert_same_logits(net, small, torch.randn(6, 4))


@pytest.mark.parametrize("bias", [1.0, -1.0])
def test_a_flattened_constant_goes_if_its_positions_are_equal(bias):
    """What padding makes of another constant than 0 differs by position, and images of another shape have others."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.ConstantPad2d(1, 0.25), nn.Flatten(), nn.Linear(3 * 36, 2)
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = bias
    net[2] = nn.ZeroPad2d(1)
    for pool, features in ((nn.Identity(), 36), (nn.AvgPool2d(3, 1, padding=1), 36)):
        net[3], net[4] = nn.Sequential(pool, nn.Flatten()), nn.Linear(3 * features, 2)
        small = shrink(net, torch.randn(4, 1, 6, 6))
        assert architecture(small)["0"] == (1, 2 if bias < 0 else 3)
        assert_same_logits(net, small, torch.randn(4, 1, 6, 6))
        assert_same_logits(net, small, torch.randn(4, 1, 4, 9))


def test_a_still_channel_that_differs_by_position_stays_before_a_convolution():
    """A pool that averages zeros in makes less of a constant at the border, and one bias is for all positions."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AvgPool2d(3, 1, padding=1), nn.Conv2d(3, 2, 3), nn.Flatten())
    with torch.no_grad():
        net[0].weight[1] = 0
    inputs = torch.randn(4, 1, 6, 6)
    small = shrink(net, inputs)
    assert architecture(small)["0"][1] == 3
    assert_same_logits(net, small, inputs)


def test_a_depthwise_convolution_carries_its_channels_and_may_stop_them():
    net = nn.Sequential(
        nn.Conv2d(2, 5, 1), nn.Conv2d(5, 5, 3, groups=5, bias=False), nn.BatchNorm2d(5), nn.Conv2d(5, 3, 1)
    ).eval()  # fmt: skip
    with torch.no_grad():
        net[1].weight[1] = 0  # stops its channel: what made it is not read
        net[3].weight[:, 4] = 0
        net[2].bias[1] = 2.0
    inputs = torch.randn(4, 2, 6, 6)
    small = shrink(net, inputs)
    assert architecture(small) == {"0": (2, 3), "1": (3, 3), "3": (3, 3)}
    assert (small[1].groups, small[1].weight.shape) == (3, (3, 1, 3, 3))
    assert_same_logits(net, small, torch.randn(8, 2, 6, 6))


def test_what_a_depthwise_convolution_stops_may_be_read_before_it():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.deep = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.stem(x).relu()
            return self.head(x + self.deep(x))

    net = Around()
    with torch.no_grad():
        net.deep.weight[2] = 0
        net.stem.bias[2] = -100.0  # still on every input that shrink sees, and not on all that there are
    small = shrink(net, torch.randn(4, 1, 5, 5))
    assert architecture(small)["stem"] == (1, 4)
    assert_same_logits(net, small, 1000 * torch.randn(8, 1, 5, 5))


def test_what_a_constant_becomes_behind_a_depthwise_convolution_is_its_bias():
    """Where a reader pads with zeros the channel stays, and what it holds is what the constant made."""
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 2, 3, padding=1)).eval()
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = 0.7
        expected = net[1].bias[1] + 0.7 * net[1].weight[1].sum()
    small = shrink(net, torch.randn(4, 1, 6, 6))
    assert architecture(small)["2"] == (3, 2)
    torch.testing.assert_close(small[1].bias[1], expected)
    assert (small[1].weight[1] == 0).all()
    assert_same_logits(net, small, torch.randn(8, 1, 6, 6))


def test_a_constant_goes_through_a_depthwise_convolution_unless_it_ends_at_the_border():
    def make(padding):
        net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 3, padding=padding, groups=3), nn.Conv2d(3, 2, 1))
        with torch.no_grad():
            net[0].weight[1] = 0
            net[0].bias[1] = 0.7
        return net.eval()

    for padding, left in ((0, 2), (1, 3)):
        net = make(padding)
        small = shrink(net, torch.randn(4, 1, 6, 6))
        assert architecture(small) == {"0": (1, left), "1": (left, left), "2": (left, 2)}
        assert_same_logits(net, small, torch.randn(8, 1, 6, 6))


def test_hidden_units_that_only_read_each_other_go():
    """Units 2 and 3 feed each other, and nothing else reads them."""
    net = Written(
        lambda net, x: net.head(net.rnn(x)[0].mean(1)), rnn=nn.RNN(3, 4, batch_first=True), head=nn.Linear(4, 2)
    )
    with torch.no_grad():
        net.head.weight[:, 2:] = 0
        net.rnn.weight_hh_l0[:2, 2:] = 0
    inputs = torch.randn(6, 5, 3)
    small = shrink(net.eval(), inputs)
    assert small.rnn.hidden_size == 2
    torch.testing.assert_close(small(inputs), net(inputs))
