"""Rules for channels: what passes, merges and protects them, and refusals that name an unknown layer or operation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyro_vd.compress import architecture, shrink
from pyro_vd.errors import UserError
from tests.compress._nets import Written, assert_same_logits, prune_at_random
from tests.compress.rules._calls import channels_on, label


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
def test_one_of_several_outputs_may_be_given(name):
    net = prune_at_random(OneOutput(REMOVALS[name], outputs=2), keep=0.7)
    inputs = torch.randn(16, 6)
    small = shrink(net, inputs)
    assert small.fc1.out_features < 8
    assert small.fc2.out_features == 2
    assert_same_logits(net, small, inputs)


def joined(net, x):
    """A tensor of the network's own beside the channels of a layer."""
    return net.fc(torch.cat([net.first(x), net.own.expand(x.shape[0], -1)], 1))


def centered(net, x):
    """One channel becomes three."""
    return net.conv(net.stem(x) - net.own).flatten(1)


def scaled(net, x):
    return net.head(net.fc(x) * net.scale)


def normalized(net, x):
    return net.head(F.layer_norm(net.fc(x), (4,)))


def twice(net, x):
    return net.head(net.fc(net.fc(x)))


STAYING = {
    "LayerNorm": (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), (8, 4)),
    "layer_norm": (Written(normalized, fc=nn.Linear(4, 4), head=nn.Linear(4, 2)), (8, 4)),
    "softmax": (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)), (8, 4)),
    "a pool over units": (nn.Sequential(nn.Linear(4, 6), nn.MaxPool1d(2), nn.Linear(3, 2)), (8, 4)),
    "an own scale of each channel": (
        Written(scaled, fc=nn.Linear(4, 4), scale=nn.Parameter(torch.randn(4)), head=nn.Linear(4, 2)), (8, 4)
    ),
    "an own tensor of more channels": (
        Written(
            centered, stem=nn.Conv2d(1, 1, 1), own=nn.Parameter(torch.ones(3, 1, 1)), conv=nn.Conv2d(3, 2, 5)
        ), (8, 1, 5, 5),
    ),
    "a layer of its own outputs and of the inputs": (
        Written(twice, fc=nn.Linear(4, 4), head=nn.Linear(4, 2)), (8, 4)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:shrink. nothing is left of stem")
@pytest.mark.parametrize("name", STAYING)
def test_channels_that_others_depend_on_stay(name):
    """Every unit that a first layer makes is dead, and none may go."""
    net, shape = STAYING[name]
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    with torch.no_grad():
        first.weight[0] = 0
    inputs = torch.randn(shape)
    small = shrink(net.eval(), inputs)
    assert next(iter(architecture(small).values()))[1] == len(first.weight)
    assert_same_logits(net, small, torch.randn(shape))


def test_own_tensors_join_channels():
    net = Written(joined, first=nn.Linear(4, 5), own=nn.Parameter(torch.randn(1, 2)), fc=nn.Linear(7, 2))
    with torch.no_grad():
        net.first.weight[2] = 0
        net.fc.weight[:, 4] = 0
    inputs = torch.randn(3, 4)
    small = shrink(net, inputs)
    assert architecture(small) == {"first": (4, 3), "fc": (5, 2)}
    assert_same_logits(net, small, inputs)


def written_for_sizes(net, x):
    """As many networks flatten: with the number of inputs of the next layer in the code."""
    return net.head(net.fc(net.conv(x).relu().view(-1, 8 * 4)).relu())


def squeezed(net, x):
    return net.head(F.adaptive_avg_pool2d(net.conv(x).relu(), 1).squeeze())


@pytest.mark.parametrize(
    ("net", "left"),
    [
        (Written(written_for_sizes, conv=nn.Conv2d(1, 8, 3), fc=nn.Linear(32, 8), head=nn.Linear(8, 2)), (8, 1)),
        (Written(squeezed, conv=nn.Conv2d(1, 8, 3), head=nn.Linear(8, 2)), (3, 2)),
    ],
)
def test_code_that_holds_for_some_sizes_only_gets_these(net, left):
    """One unit of each hidden layer is alive."""
    with torch.no_grad():
        for layer in net.children():
            if layer is not net.head:
                layer.weight[torch.arange(len(layer.weight)) != 5] = 0
    inputs = torch.randn(6, 1, 4, 4)
    small = shrink(net.eval(), inputs)
    assert tuple(outputs for _, outputs in architecture(small).values())[:2] == left
    assert_same_logits(net, small, torch.randn(6, 1, 4, 4))


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    return net


def sorted_units(net, x):
    return net.head(torch.sort(net.fc(x), 1)[0])


def started(net, x):
    states, _ = net.rnn(x, torch.zeros(1, 3, 4))
    return states.mean(1)


REFUSED = {
    "sort": (Written(sorted_units, fc=nn.Linear(4, 4), head=nn.Linear(4, 2)), (3, 4), r"'sort' \(sort of \(3, 4\)\)"),
    "Bilinear": (
        Written(lambda net, x: net.pair(net.fc(x), x), fc=nn.Linear(4, 4), pair=nn.Bilinear(4, 4, 2)), (3, 4),
        r"layer 'pair' \(Bilinear\)",
    ),
    "one example": (nn.Sequential(nn.Conv2d(4, 4, 3)), (4, 5, 5), r"'0' \(Conv2d\) on a single .*; add an axis"),
    "statistics of the batch": (
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), (3, 4), "without running .*; set",
    ),
    "tied weights": (tied(), (3, 4), r"layer '1', whose weight is another layer's too \('0'\).*; untie them"),
    "keys of another width": (
        Written(
            lambda net, x: net.attention(x, x[..., :3], x)[0], attention=nn.MultiheadAttention(4, 2, kdim=3)
        ), (3, 5, 4), r"layer 'attention' \(MultiheadAttention\) has kdim",
    ),
    "projections": (nn.Sequential(nn.LSTM(4, 4, proj_size=2)), (3, 5, 4), r"'0' \(LSTM with proj_size=2\)"),
    "an initial state": (
        Written(started, rnn=nn.GRU(4, 4, batch_first=True)), (3, 5, 4), r"'rnn' .* with an initial state .*; let",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("net", "shape", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_known_is_refused_by_name_and_untouched(net, shape, named):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError, match=named):
        shrink(net, torch.randn(shape))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_labels_that_do_not_fit_the_result_are_refused():
    """``std(False)`` names no axis: False stands for the bias."""
    channels, x = channels_on(1, 4, 2, 3)
    with pytest.raises(UserError, match=r"'std' \(std of \(4, 2, 3\)\), with a result of shape \(\), is not known"):
        label(lambda x: x.std(False), channels, x)


def half_dead(make, *shape):
    """A network whose layer ``made`` has a dead half, and a shrunk one."""
    torch.manual_seed(0)
    net, inputs = make().double().eval(), torch.randn(5, *shape, dtype=torch.float64)
    with torch.no_grad():
        net.made.weight[: len(net.made.weight) // 2] = 0
        net.made.bias[: len(net.made.bias) // 2] = -1
    return net, shrink(net, inputs), torch.randn(5, *shape, dtype=torch.float64)


SPELLINGS = {
    "axis of a mean": lambda: Written(
        lambda net, x: net.head(net.made(x).relu().mean(axis=(2, 3))), made=nn.Conv2d(2, 8, 3), head=nn.Linear(8, 2)
    ),
    "axis of a concatenation": lambda: Written(
        lambda net, x: net.head(torch.cat([net.made(x), net.made(x).relu()], axis=1).mean((2, 3))),
        made=nn.Conv2d(2, 8, 3), head=nn.Linear(16, 2),
    ),
    "a size of a transposed convolution": lambda: Written(
        lambda net, x: net.head(net.up(net.made(x).relu(), output_size=x.shape[2:])),
        made=nn.Conv2d(2, 8, 3, stride=2), up=nn.ConvTranspose2d(8, 4, 3, stride=2), head=nn.Conv2d(4, 2, 1),
    ),
    "a pool with indices": lambda: Written(
        lambda net, x: net.head(net.pool(net.made(x))[0].mean((2, 3))), made=nn.Conv2d(2, 8, 3),
        pool=nn.MaxPool2d(6, return_indices=True), head=nn.Linear(8, 2),
    ),
    "its function": lambda: Written(
        lambda net, x: net.head(F.max_pool2d(net.made(x), 6, return_indices=True)[0].mean((2, 3))),
        made=nn.Conv2d(2, 8, 3), head=nn.Linear(8, 2),
    ),
    "the type of another tensor": lambda: Written(
        lambda net, x: net.head(net.made(x).type_as(net.other(x))),
        made=nn.Conv2d(2, 8, 3), other=nn.Conv2d(2, 5, 3), head=nn.Conv2d(8, 2, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", SPELLINGS.values(), ids=SPELLINGS)
def test_a_call_in_another_form_is_the_same_call(make):
    net, small, inputs = half_dead(make, 2, 8, 8)
    assert small.made.out_channels == 4
    assert_same_logits(net, small, inputs, 1e-9)


READ = {
    "tied outputs": lambda: Written(
        lambda net, x: net.fc(net.made(x)).relu() @ net.made.weight, made=nn.Linear(6, 8), fc=nn.Linear(8, 8)
    ),
    "a largest weight": lambda: Written(
        lambda net, x: net.head(net.made(x)) + net.made.weight.amin(0)[:2], made=nn.Linear(6, 8), head=nn.Linear(8, 2)
    ),
    "a mean of averages": lambda: Written(
        lambda net, x: net.head(net.norm(net.made(x))) + net.norm.weight.mean(),
        made=nn.Linear(6, 8), norm=nn.BatchNorm1d(8), head=nn.Linear(8, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", READ.values(), ids=READ)
def test_a_layer_whose_weight_the_code_reads_keeps_its_units(make):
    net, small, inputs = half_dead(make, 6)
    assert small.made.out_features == 8
    assert_same_logits(net, small, inputs, 1e-9)


def test_what_may_write_to_a_tensor_is_refused():
    def forward(net, x):
        x = net.made(x)
        x[:, 0].__setitem__(slice(1), 0.0)
        return net.head(x)

    net = Written(forward, made=nn.Linear(4, 8), head=nn.Linear(8, 2))
    with pytest.raises(UserError, match=r"which gives nothing, is not known"):
        shrink(net, torch.randn(5, 4))


def test_padding_that_takes_channels_away_keeps_them():
    channels, x = channels_on(1, 2, 3, 5)
    assert label(lambda x: F.pad(x, (0, 0, -1, 0)), channels, x).is_outside
    assert channels.protected >= {1, 2, 3}


def test_a_state_of_a_recurrent_layer_is_refused_by_the_layers_name():
    net = Written(lambda net, x: net.rnn(x, x.new_zeros(1, 5, 4))[0], rnn=nn.GRU(3, 4, batch_first=True))
    with pytest.raises(UserError, match=r"layer 'rnn' \(GRU\) with an initial state .*; let the state begin at zero"):
        shrink(net, torch.randn(5, 6, 3))


@pytest.mark.filterwarnings("ignore:input's size at dim=0 does not match num_features")
def test_instances_without_a_batch_are_refused():
    """Of (batch, features), it normalizes over the features."""
    with pytest.raises(UserError, match=r"layer '1' \(InstanceNorm1d\) on a single example"):
        shrink(nn.Sequential(nn.Linear(4, 6), nn.InstanceNorm1d(6), nn.Linear(6, 2)), torch.randn(5, 4))
