"""shrink: the same logits from fewer units on many networks, warnings, and the check of the result."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.utils.prune
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pyro_vd.compress import SelectedLinear, architecture, shrink
from pyro_vd.errors import UserError
from pyro_vd.models import VGG, CifarCNN, LeNet5, LeNet300, ResNet9
from tests.compress._nets import Written, assert_same_logits, count_parameters, prune_at_random

NETWORKS = [
    LeNet300,
    LeNet5,
    partial(CifarCNN, scale=0.25),
    partial(VGG, scale=0.125),
    partial(ResNet9, scale=0.125),
]


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("keep", [0.9, 0.6])
def test_a_shrunk_network_gives_the_same_logits_and_is_smaller(make, keep):
    net = prune_at_random(make(), keep)
    inputs = torch.randn(8, *net.input_shape)
    before = copy.deepcopy(net.state_dict())
    small = shrink(net, inputs)
    assert_same_logits(net, small, torch.randn(32, *net.input_shape))
    assert count_parameters(small) < count_parameters(net)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert type(small) is type(net)


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
    assert count_parameters(small) < 0.9 * count_parameters(net)
    assert any(module.groups == module.in_channels > 1 for module in small.modules() if isinstance(module, nn.Conv2d))


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


class Normalized(nn.Module):
    """With a mean of its own, as networks on color images have."""

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


@pytest.mark.parametrize(("make", "layer"), [(Normalized, "conv"), (InPlace, "stem"), (Doubled, "fc")])
def test_networks_of_a_users_kind(make, layer):
    """Normalization by an own tensor, work in place after a layer has read, one tensor twice in a concatenation."""
    net = make()
    with torch.no_grad():
        net.get_submodule(layer).weight[1] = 0
        net.get_submodule(layer).bias[1] = -0.7
    inputs = torch.randn(8, 3, 6, 6) if make is Normalized else torch.randn(8, 4)
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
    assert count_parameters(small) < count_parameters(net)
    exact = copy.deepcopy(net).double()(inputs.double())
    assert (small(inputs) - exact).abs().max() <= 8 * (net(inputs) - exact).abs().max()


@pytest.mark.parametrize("make", [LeNet300, LeNet5])
def test_where_nothing_is_pruned_it_says_so(make):
    net = make()
    with pytest.warns(UserWarning, match=r"shrink: no weight is 0, .* Posterior.mean prunes") as said:
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
    assert count_parameters(small) < count_parameters(net)


def test_noise_outside_of_the_networks_domain_decides_nothing():
    net = Written(lambda net, x: net.head(net.fc(x.log()).relu()), fc=nn.Linear(4, 6), head=nn.Linear(6, 3))
    with torch.no_grad():
        net.head.weight[:, 2:4] = 0
    small = shrink(net, torch.rand(6, 4) + 0.1)
    assert small.fc.out_features == 4
    assert_same_logits(net, small, torch.rand(6, 4) + 0.1)


class OwnSizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(64, 2)

    def forward(self, x):
        return self.fc(self.conv(x).relu().expand(-1, 4, 4, 4).flatten(1))


class Outputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return {"logits": self.fc(x), "name": "logits"}


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


def test_sizes_in_the_code_are_found_out():
    net = OwnSizes()
    with torch.no_grad():
        net.conv.weight[0] = 0
        net.conv.bias[0] = -1
    with pytest.raises(UserError, match="OwnSizes does not run at its new sizes"):
        shrink(net, torch.randn(4, 1, 6, 6))


@pytest.mark.parametrize(
    ("net", "shape", "named"),
    [
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)), (3, 4), "weight of '' is computed from other tensors"),
        (nn.Sequential(old_weight_norm()), (3, 4), "a weight of '0' is computed .*; call .*remove_weight_norm"),
        (torch_pruned(), (3, 4), "weight of '0' is computed from other tensors"),
        (Written(lambda net, x: net.fc(x.view(3, 4)), fc=nn.Linear(4, 2)), (3, 4), "Written does not run on 6 inputs"),
        (torch_pruned_elsewhere(), (3, 4), "shrink: a weight of '0' is computed from other tensors"),
        (Outputs(), (3, 4), "Outputs gives str beside its tensors"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_shrunk_are_refused_and_untouched(net, shape, named):
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError, match=named):
        shrink(net, torch.randn(shape))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
