"""shrink: the same logits from fewer units, by every rule, and refusals that name what is not known."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro_vd.models import cifar_cnn, lenet5, lenet300, resnet9, vgg
from torch import nn

from pyro_vd.compress import SelectedLinear, architecture, shrink
from pyro_vd.errors import UserError

EXACT = 1e-5  # of the largest logit


def prune_at_random(net, keep, seed=0):
    """Weights set to 0 unit by unit and one by one, so that every rule has work."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                weight = module.weight
                weight *= torch.rand(weight.shape, generator=generator) < 0.8
                for axis in (0, 1) if weight.shape[1] > 1 else (0,):  # a depthwise one would end the network
                    shape = [1] * weight.ndim
                    shape[axis] = weight.shape[axis]
                    weight *= (torch.rand(weight.shape[axis], generator=generator) < keep).view(shape)
            elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.bias.normal_(generator=generator)
    return net.eval()


def assert_same_logits(net, small, inputs, tolerance=EXACT):
    with torch.no_grad():
        expected, got = net(inputs), small(inputs)
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def parameters(net):
    return sum(p.numel() for p in net.parameters())


NETWORKS = [
    lenet300,
    lenet5,
    partial(cifar_cnn, scale=0.25),
    partial(vgg, scale=0.125),
    partial(resnet9, scale=0.125),
]


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("keep", [0.9, 0.6])
def test_a_shrunk_network_gives_the_same_logits_and_is_smaller(make, keep):
    net = prune_at_random(make(), keep)
    inputs = torch.randn(8, *net.input_shape)
    before = copy.deepcopy(net.state_dict())
    small = shrink(net, inputs)
    assert_same_logits(net, small, torch.randn(32, *net.input_shape))
    assert parameters(small) < parameters(net)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert type(small) is type(net)


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


def test_positions_of_a_flattened_channel_fold_one_by_one():
    """What padding makes of a constant differs by position, but every position is a feature of its own."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.ConstantPad2d(1, 0.25), nn.Flatten(), nn.Linear(3 * 36, 2)
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = 1.0
    inputs = torch.randn(4, 1, 6, 6)
    with pytest.raises(UserError, match=r"layer '2' \(ConstantPad2d\)"):
        shrink(net, inputs)
    net[2] = nn.AvgPool2d(3, 1, padding=1)  # less at the border, for what is padded is averaged in
    net[4] = nn.Linear(48, 2)
    small = shrink(net, inputs)
    assert architecture(small) == {"0": (1, 2), "4": (32, 2)}
    assert_same_logits(net, small, inputs)


def test_a_still_channel_that_differs_by_position_stays_before_a_convolution():
    """A pool that averages zeros in makes less of a constant at the border, and one bias is for all positions."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AvgPool2d(3, 1, padding=1), nn.Conv2d(3, 2, 3), nn.Flatten())
    with torch.no_grad():
        net[0].weight[1] = 0
    inputs = torch.randn(4, 1, 6, 6)
    small = shrink(net, inputs)
    assert architecture(small)["0"][1] == 3
    assert_same_logits(net, small, inputs)


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


def test_inputs_that_nothing_reads_are_left_out():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight[:, 5:12] = 0
    small = shrink(net, torch.randn(4, 1, 4, 4))
    assert isinstance(small[1], SelectedLinear)
    assert architecture(small)["1"] == (9, 4)
    assert small[1].selected.tolist() == [*range(5), *range(12, 16)]
    assert_same_logits(net, small, torch.randn(8, 1, 4, 4))


@pytest.mark.parametrize("make", [lenet300, lenet5])
def test_a_shrunk_network_shrinks_again(make):
    """Pruned, shrunk, tuned, pruned: the second time there are layers that select their inputs."""
    inputs = torch.randn(8, 1, 28, 28)
    once = shrink(prune_at_random(make(), 0.7), inputs)
    assert any(isinstance(layer, SelectedLinear) for layer in once.modules())
    same = shrink(once, inputs)
    assert architecture(same) == architecture(once)
    assert_same_logits(once, same, inputs, 1e-6)
    pruned = prune_at_random(copy.deepcopy(once), 0.7, seed=1)
    twice = shrink(pruned, inputs)
    assert_same_logits(pruned, twice, inputs)
    assert parameters(twice) < parameters(once)


def test_a_layer_with_nothing_left_keeps_one_unit_and_the_logits():
    net = lenet300().eval()
    with torch.no_grad():
        net.fc2.weight.zero_()
    inputs = torch.randn(4, 1, 28, 28)
    with pytest.warns(UserWarning, match="shrink: nothing is left of fc2; a higher threshold"):
        small = shrink(net, inputs)
    assert architecture(small)["fc2"] == (1, 1)
    assert_same_logits(net, small, inputs)


@pytest.mark.parametrize(
    "make",
    [
        partial(torchvision.models.mobilenet_v2, width_mult=0.25),
        partial(torchvision.models.mobilenet_v3_small, width_mult=0.5),
    ],
)
def test_networks_of_mobile_devices(make):
    """Depthwise convolutions in residual blocks, gates of squeeze and excitation."""
    net = prune_at_random(make(num_classes=10), 0.9).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # so that signals do not vanish in fifty layers
    inputs = torch.randn(16, 3, 64, 64)
    net(inputs)
    small = shrink(net.eval(), inputs)
    assert_same_logits(net, small, torch.randn(16, 3, 64, 64), 1e-4)
    assert parameters(small) < 0.9 * parameters(net)
    assert any(module.groups == module.in_channels > 1 for module in small.modules() if isinstance(module, nn.Conv2d))


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


@pytest.mark.filterwarnings("ignore:shrink. nothing is left")
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 1.0))
def test_any_pruning_of_a_convolutional_network_keeps_its_logits(seed, keep):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3, bias=False),
        nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Dropout(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3),
    )  # fmt: skip
    prune_at_random(net, keep, seed)
    assert_same_logits(net, shrink(net, torch.randn(4, 2, 8, 8)), torch.randn(8, 2, 8, 8), 2e-5)


class Normalised(nn.Module):
    """With a mean of its own, as networks on colour images have."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(64, 2)

    def forward(self, x):
        return self.head(self.conv((x - self.mean) / 0.25).relu().flatten(1))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(10, 2)

    def forward(self, x):
        x = self.stem(x)
        a = self.one(x)
        x.relu_()
        return self.head(torch.cat([a, x], 1))


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(4, 3), nn.Linear(6, 2)

    def forward(self, x):
        x = self.fc(x)
        return self.head(torch.cat([x, x], 1))


@pytest.mark.parametrize(("make", "layer"), [(Normalised, "conv"), (InPlace, "stem"), (Doubled, "fc")])
def test_networks_of_a_users_kind(make, layer):
    """Normalisation by an own tensor, work in place after a layer has read, one tensor twice in a concatenation."""
    net = make()
    with torch.no_grad():
        net.get_submodule(layer).weight[1] = 0
        net.get_submodule(layer).bias[1] = -0.7
    inputs = torch.randn(8, 3, 6, 6) if make is Normalised else torch.randn(8, 4)
    before = inputs.clone()
    small = shrink(net, inputs)
    assert torch.equal(inputs, before)
    assert_same_logits(net, small, inputs)
    assert architecture(small)[layer][1] == architecture(net)[layer][1] - 1


def test_what_works_in_place_on_the_inputs_leaves_the_callers_alone():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))
    nn.init.zeros_(net[1].weight[:1, :1])
    inputs = torch.randn(8, 4)
    before = inputs.clone()
    shrink(net, inputs)
    assert torch.equal(inputs, before)


def test_shrinking_draws_no_random_numbers_and_freezes_and_frees_nothing():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)).requires_grad_(False)
    with torch.no_grad():
        net[1].weight[:, 3:9] = 0
        net[1].weight[0] = 0
        net[1].bias[0] = 1
    state = torch.get_rng_state()
    small = shrink(net, torch.ones(4, 1, 4, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(small[1], SelectedLinear)
    assert small[3].bias is not None
    assert not any(parameter.requires_grad for parameter in small.parameters())


class Written(nn.Module):
    """Layers, and what to do with them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.written = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.written(self, x)


def test_a_large_common_bias_hides_no_difference():
    """The check looks at how logits differ, not at how large they are. Kills: against their largest, or no check."""
    net = Written(
        lambda net, x: net.head(net.fc(x).relu() / net.fc.out_features), fc=nn.Linear(8, 6), head=nn.Linear(6, 3)
    )
    with torch.no_grad():
        net.head.weight[:, 2] = 0
        net.head.bias.fill_(1e4)
    with pytest.raises(UserError, match=r"Written's logits differ by .* the network is untouched"):
        shrink(net, torch.randn(6, 8))


def test_logits_that_are_small_differences_of_large_numbers():
    """Sums in another order round otherwise, by no more than the network itself. Kills: the tolerance alone."""
    net = prune_at_random(nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 3)), 0.8)
    inputs = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net[0].bias.fill_(1e4)
        used = net[2].weight != 0
        net[2].weight -= used * (net[2].weight.sum(1, keepdim=True) / used.sum(1, keepdim=True).clamp(min=1))
    small = shrink(net, inputs)
    assert parameters(small) < parameters(net)
    exact = copy.deepcopy(net).double()(inputs.double())
    assert (small(inputs) - exact).abs().max() <= 8 * (net(inputs) - exact).abs().max()


@pytest.mark.parametrize("make", [lenet300, lenet5])
def test_where_nothing_is_pruned_it_says_so(make):
    net = make()
    with pytest.warns(UserWarning, match=r"shrink: no weight is 0, .* Posterior.mean.threshold. prunes") as said:
        small = shrink(net, torch.randn(4, 1, 28, 28))
    assert architecture(small) == architecture(net)
    assert said[0].filename == __file__


def test_a_layer_called_by_keyword_is_a_layer():
    net = Written(lambda net, x: net.head(input=net.fc(input=x).relu()), fc=nn.Linear(8, 6), head=nn.Linear(6, 3))
    with torch.no_grad():
        net.fc.weight[1] = 0
        net.fc.bias[1] = 2.0
    x = torch.randn(6, 8)
    small = shrink(net, x)
    assert small.fc.out_features == 5
    assert_same_logits(net, small, x)


def test_half_precision_is_checked_by_its_own_rounding():
    net = prune_at_random(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)), 0.8).bfloat16()
    small = shrink(net, torch.randn(16, 64, dtype=torch.bfloat16))
    assert parameters(small) < parameters(net)


def test_sizes_of_other_layers_are_their_own():
    net = nn.ModuleDict({"up": nn.ConvTranspose2d(4, 3, 2), "grouped": nn.Conv2d(4, 6, 1, groups=2)})
    assert architecture(net) == {"up": (4, 3), "grouped": (4, 6)}


class OwnSizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(64, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().view(-1, 64))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.fc(self.fc(x)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else self.fc(-x)


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


class Outputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return {"logits": self.fc(x)}


def halves(net, x):
    one, other = net.fc(x).chunk(2, 1)
    return net.head(one * other.sigmoid())


def summed(net, x):
    """What a dead channel sums to depends on the size of the image."""
    return net.head(net.conv(x).relu().sum((2, 3)))


def joined(net, x):
    return net.fc(torch.cat([x, net.own], 1))


def centred(net, x):
    """One channel becomes three."""
    return net.conv(x - net.own).flatten(1)


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    return net


def torch_pruned():
    net = nn.Sequential(nn.Linear(4, 2))
    nn.utils.prune.l1_unstructured(net[0], "weight", 2)
    return net


def old_weight_norm():
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(nn.Linear(4, 2))


def torch_pruned_elsewhere():
    net = nn.Sequential(nn.Linear(4, 2))
    nn.utils.prune.l1_unstructured(net[0], "bias", 1)
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
        (Branching(), (3, 4), "Branching cannot be traced"),
        (Own(), (3, 4), "'scale', a tensor of the network's own"),
        (Functional(), (3, 4), "operation 'layer_norm'"),
        (Written(halves, fc=nn.Linear(4, 4), head=nn.Linear(2, 2)), (3, 4), "operation 'chunk', which gives several"),
        (Written(summed, conv=nn.Conv2d(2, 4, 3), head=nn.Linear(4, 2)), (3, 2, 5, 5), "operation 'sum'"),
        (Written(joined, own=nn.Parameter(torch.ones(3, 2)), fc=nn.Linear(6, 2)), (3, 4), "operation 'cat'"),
        (Written(centred, own=nn.Parameter(torch.ones(3, 1, 1)), conv=nn.Conv2d(3, 2, 5)), (3, 1, 5, 5), "'sub'"),
        (tied(), (3, 4), "layer '1', whose weight is another layer's too"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)), (3, 4), "weight of '' is made of other tensors"),
        (nn.Sequential(old_weight_norm()), (3, 4), "a weight of '0' is made .*; call .*remove_weight_norm"),
        (torch_pruned(), (3, 4), "weight of '0' is made of other tensors"),
        (torch_pruned_elsewhere(), (3, 4), "shrink: a weight of '0' is made of other tensors"),
        (Outputs(), (3, 4), "Outputs gives dict, not a tensor of logits"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name_and_untouched(net, shape, named):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError, match=named):
        shrink(net, torch.randn(shape))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_sizes_in_the_code_are_found_out():
    net = OwnSizes()
    with torch.no_grad():
        net.conv.weight[0] = 0
        net.conv.bias[0] = -1
    with pytest.raises(UserError, match="OwnSizes does not run at its new sizes"):
        shrink(net, torch.randn(4, 1, 6, 6))


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
