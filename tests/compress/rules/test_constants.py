"""Dead units whose value changes with the size of the inputs stay; those whose value does not go."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyro_vd.compress import shrink
from tests.compress._nets import Written, assert_same_logits


def on_tokens(pick, **layers):
    """A layer of 8 units whose half is dead, and what becomes of its outputs, (batch, tokens, 8) -> (batch, 8)."""
    return Written(
        lambda net, x: net.head(pick(net, x, net.made(x))), made=nn.Linear(3, 8), head=nn.Linear(8, 2), **layers
    )


def on_images(pick, **layers):
    """The same of a convolution, (batch, 8, height, width) -> (batch, 8)."""
    return Written(
        lambda net, x: net.head(pick(net, x, net.made(x))), made=nn.Conv2d(3, 8, 1), head=nn.Linear(8, 2), **layers
    )


def recurrent(make, pick, **options):
    def forward(net, x):
        return net.head(pick(net.made(x)))

    return Written(forward, made=make(3, 8, batch_first=True, **options), head=nn.Linear(8, 2))


def add_positions(net, x, made):
    return made + torch.arange(x.size(1))[:, None]


SIZED_TOKENS = {
    "a sum": lambda: on_tokens(lambda net, x, made: made.sum(1)),
    "a product": lambda: on_tokens(lambda net, x, made: made.prod(dim=1)),
    "a logarithm of a sum": lambda: on_tokens(lambda net, x, made: made.relu().logsumexp(1)),
    "a softmax": lambda: on_tokens(lambda net, x, made: made.softmax(1).amax(1)),
    "a softmax of a layer": lambda: on_tokens(lambda net, x, made: net.soft(made).amax(1), soft=nn.Softmax(1)),
    "its logarithm": lambda: on_tokens(lambda net, x, made: F.log_softmax(made, dim=1).amax(1)),
    "times the length": lambda: on_tokens(lambda net, x, made: (made * x.size(1)).mean(1)),
    "to the length": lambda: on_tokens(lambda net, x, made: made.abs().pow(x.shape[1]).mean(1)),
    "plus numbers of positions": lambda: on_tokens(lambda net, x, made: add_positions(net, x, made)[:, -1]),
    "after a first token": lambda: on_tokens(
        lambda net, x, made: torch.cat([net.first(x[:, :1]), made], 1).mean(1), first=nn.Linear(3, 8)
    ),
    "an LSTM": lambda: recurrent(nn.LSTM, lambda made: made[0][:, -1]),
    "a state of an LSTM": lambda: recurrent(nn.LSTM, lambda made: made[1][1][0]),
    "a GRU": lambda: recurrent(nn.GRU, lambda made: made[1][1], num_layers=2),
    "an RNN": lambda: recurrent(nn.RNN, lambda made: made[0].mean(1), nonlinearity="relu"),
}
SIZED_IMAGES = {
    "a sum over an image": lambda: on_images(lambda net, x, made: made.sum((2, 3))),
    "an average of zeros too": lambda: on_images(
        lambda net, x, made: net.pool(made).mean((2, 3)), pool=nn.AvgPool2d(3, 1, (1, 1))
    ),
    "its function": lambda: on_images(lambda net, x, made: F.avg_pool2d(made, 3, 1, padding=1).mean((2, 3))),
    "a part of a window": lambda: on_images(
        lambda net, x, made: F.avg_pool2d(made, 4, ceil_mode=True, divisor_override=3).mean((2, 3))
    ),
    "padding": lambda: on_images(lambda net, x, made: F.pad(made, (1, 1)).mean((2, 3))),
    "a padding layer": lambda: on_images(
        lambda net, x, made: F.adaptive_avg_pool2d(net.pad(made), 1).flatten(1), pad=nn.ConstantPad2d(1, 0.7)
    ),
    "normalized padding": lambda: on_images(
        lambda net, x, made: net.norm(F.pad(made, (1, 1))).amax((2, 3)), norm=nn.GroupNorm(4, 8)
    ),
}  # fmt: skip
SIZELESS = {
    "a mean": lambda: on_tokens(lambda net, x, made: made.mean(1)),
    "a maximum": lambda: on_tokens(lambda net, x, made: made.amax(1)),
    "a sum of zeros": lambda: on_tokens(lambda net, x, made: (made.clamp(min=0, max=9) * 0).sum(1) + made.mean(1)),
}


def with_dead_units(net):
    """Half of the units have no weights but a bias above 0."""
    net = net.double().eval()
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            dead = torch.arange(len(tensor)) % 8 < 4
            if name.startswith(("made", "first")):
                tensor[dead] = 0 if tensor.ndim > 1 else torch.rand(int(dead.sum()), dtype=torch.float64) + 0.1
    return net


def tokens(length):
    return torch.randn(6, length, 3, dtype=torch.float64)


def images(size):
    return torch.randn(6, 3, size, size, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("make", SIZED_TOKENS.values(), ids=SIZED_TOKENS)
def test_a_unit_that_depends_on_the_length_is_right_at_any_length(make, length):
    """Also if one position shows nothing. Kills: values of the given inputs alone."""
    torch.manual_seed(0)
    net = with_dead_units(make())
    small = shrink(net, tokens(length))
    for other in (1, 2, 9):
        assert_same_logits(net, small, tokens(other), 1e-10)


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("make", SIZED_IMAGES.values(), ids=SIZED_IMAGES)
def test_a_unit_that_depends_on_the_image_is_right_for_any_image(make, size):
    """An image of 2 by 2 has no position away from its border."""
    torch.manual_seed(0)
    net = with_dead_units(make())
    small = shrink(net, images(size))
    for other in (2, 3, 9):
        assert_same_logits(net, small, images(other), 1e-10)


@pytest.mark.parametrize("make", SIZELESS.values(), ids=SIZELESS)
def test_a_unit_that_does_not_depend_on_the_length_goes(make):
    torch.manual_seed(0)
    net = with_dead_units(make())
    small = shrink(net, tokens(4))
    assert small.made.out_features == 4
    assert_same_logits(net, small, tokens(9), 1e-10)


def test_zeros_are_zeros_at_any_length():
    """Dead units that a ReLU or a recurrence holds at 0 go, though their sum is over positions."""
    torch.manual_seed(0)
    net = with_dead_units(on_tokens(lambda net, x, made: made.relu().sum(1)))
    still = copy.deepcopy(net)
    still.made.bias.data[:4] = -1
    assert shrink(net, tokens(4)).made.out_features == 8
    small = shrink(still, tokens(4))
    assert small.made.out_features == 4
    assert_same_logits(still, small, tokens(9), 1e-10)
    lstm = with_dead_units(recurrent(nn.LSTM, lambda made: made[0][:, -1]))
    for name, tensor in lstm.made.named_parameters():
        if name.startswith("bias"):
            tensor.data[torch.arange(len(tensor)) % 8 < 4] = 0
    small = shrink(lstm, tokens(4))
    assert small.made.hidden_size == 4
    assert_same_logits(lstm, small, tokens(9), 1e-10)
