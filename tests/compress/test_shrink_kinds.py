"""Kinds of networks: each shrinks to the same outputs with fewer units, or is refused by name."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from pyro_vd.compress import load, save, shrink
from pyro_vd.errors import UserError
from tests.compress._kinds import KINDS

EXACT = 1e-9  # in float64, of the largest output
SHRINKING = [name for name, kind in KINDS.items() if not kind.refused]
LARGE = [name for name in SHRINKING if name.startswith(("ResNe", "MobileNet"))]  # of fixed widths in torchvision
pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor"),
    pytest.mark.filterwarnings("ignore:shrink. no.*:UserWarning"),  # an empty layer, and no weight that is 0
    pytest.mark.filterwarnings("ignore:input's size at dim=1 does not match num_features"),  # no tensor holds it
]


def kill_units(net, seed=0):
    """Sets weights of whole units to 0, single units and blocks of a quarter, and randomizes normalization."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if name == "running_var":
                tensor.data.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.data.normal_(generator=generator)
        if isinstance(module, nn.RNNBase):
            _kill_hidden_units(module, generator)
        elif isinstance(module, nn.MultiheadAttention):
            _kill_rows(module.in_proj_weight.data[2 * module.embed_dim :], generator)
        elif _has_weight(module):
            weight = _rows_of(module)
            _kill_rows(weight, generator)
            if weight.shape[1] > 4:
                weight[:, torch.rand(weight.shape[1], generator=generator) < 0.2] = 0
    return net.eval()


def leave_one_unit(net, seed=0):
    """Sets the weights of all units but one to 0, in every layer."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.RNNBase):
            for tensor in module.parameters():
                tensor.data[torch.arange(len(tensor)) % module.hidden_size != 1] = 0
        elif _has_weight(module):
            weight = _rows_of(module)
            weight[torch.arange(len(weight)) != int(torch.randint(len(weight), (), generator=generator))] = 0
    return net.eval()


def empty_one_layer(net, seed=0):
    """Sets all weights of one layer to 0."""
    layers = [module for module in net.modules() if _has_weight(module)]
    layers[torch.randint(len(layers), (), generator=torch.Generator().manual_seed(seed))].weight.data.zero_()
    return net.eval()


def keep_single_weights(net, seed=0):
    """Keeps a tenth of all weights, of any unit."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in net.parameters():
        if tensor.ndim > 1:
            tensor.data *= torch.rand(tensor.shape, generator=generator) < 0.1
    return net.eval()


def _has_weight(module):
    return isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim > 1


def _rows_of(module):
    """The weight with a row for each output."""
    is_transposed = isinstance(module, nn.Embedding | nn.EmbeddingBag | nn.modules.conv._ConvTransposeNd)
    return module.weight.data.transpose(0, 1) if is_transposed else module.weight.data


def _kill_rows(weight, generator):
    quarter = len(weight) // 4
    if quarter:
        first = quarter * int(torch.randint(4, (), generator=generator))
        weight[first : first + quarter] = 0
        weight[torch.rand(len(weight), generator=generator) < 0.2] = 0


def _kill_hidden_units(module, generator):
    for name, tensor in module.named_parameters():
        unit = torch.arange(len(tensor)) % module.hidden_size
        tensor.data[unit < 3] = 0  # these units stay at 0
        if "weight_hh" in name:
            tensor.data[:, torch.rand(tensor.shape[1], generator=generator) < 0.5] = 0


def count_units(net):
    """Outputs of all layers, hidden units, and heads."""
    names = ("out_features", "out_channels", "embedding_dim", "num_heads")
    units = sum(getattr(module, name, 0) for module in net.modules() for name in names)
    return units + sum(m.hidden_size * m.num_layers for m in net.modules() if isinstance(m, nn.RNNBase))


def assert_same_outputs(net, small, inputs):
    with torch.no_grad():
        expected, got = tree_leaves(net(inputs)), tree_leaves(small(inputs))
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= EXACT * other.abs().max()


def shrunk(name, prune, seed=0):
    """A pruned network of this kind, and the smaller one."""
    torch.manual_seed(seed)
    net = prune(KINDS[name].make().double(), seed)
    return net, shrink(net, KINDS[name].inputs())


@pytest.mark.parametrize("name", SHRINKING)
def test_a_kind_shrinks_to_the_same_outputs(name):
    """On other inputs, in batches of another length, and after a second time."""
    torch.manual_seed(0)
    net, inputs = kill_units(KINDS[name].make().double()), KINDS[name].inputs()
    before = copy.deepcopy(net.state_dict())
    small = shrink(net, inputs)
    assert count_units(small) < count_units(net)
    assert_same_outputs(net, small, KINDS[name].inputs())
    assert_same_outputs(net, small, KINDS[name].inputs()[:3])
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    twice = shrink(small, inputs)
    assert count_units(twice) == count_units(small)
    assert_same_outputs(net, twice, KINDS[name].inputs())


@pytest.mark.parametrize("name", [name for name in SHRINKING if name not in LARGE])
def test_a_smaller_network_loads_from_a_file(name, tmp_path):
    net, small = shrunk(name, kill_units)
    save(small, tmp_path / "net.safetensors.xz")
    loaded = load(tmp_path / "net.safetensors.xz", KINDS[name].make().double())
    assert count_units(loaded) == count_units(small)
    assert_same_outputs(net, loaded, KINDS[name].inputs())


@pytest.mark.parametrize("prune", [kill_units, leave_one_unit, empty_one_layer, keep_single_weights])
@pytest.mark.parametrize("name", [name for name in SHRINKING if name not in LARGE])
def test_a_kind_gives_the_same_outputs_however_it_is_pruned(name, prune):
    net, small = shrunk(name, prune, seed=1)
    assert count_units(small) <= count_units(net)
    assert_same_outputs(net, small, KINDS[name].inputs())


@pytest.mark.parametrize("name", LARGE)
def test_a_large_kind_may_have_one_unit_left(name):
    net, small = shrunk(name, leave_one_unit)
    assert count_units(small) < count_units(net) / 1.5
    assert_same_outputs(net, small, KINDS[name].inputs())


@pytest.mark.parametrize("name", [name for name in KINDS if name not in SHRINKING])
def test_a_kind_that_is_not_supported_is_refused_by_name(name):
    with pytest.raises(UserError, match=KINDS[name].refused) as caught:
        shrink(kill_units(KINDS[name].make().double()), KINDS[name].inputs())
    assert "\n" not in str(caught.value)
