"""Kinds of networks: each shrinks to the same outputs with fewer units, or is refused by name."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from pyro_vd.compress import shrink
from pyro_vd.errors import UserError
from tests.compress._kinds import KINDS

EXACT = 1e-9  # in float64, of the largest output
SHRINKING = [name for name, kind in KINDS.items() if not kind.refused]


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
        elif isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim > 1:
            embeds = isinstance(module, nn.Embedding | nn.EmbeddingBag | nn.modules.conv._ConvTransposeNd)
            weight = module.weight.data.transpose(0, 1) if embeds else module.weight.data
            _kill_rows(weight, generator)
            if weight.shape[1] > 4:
                weight[:, torch.rand(weight.shape[1], generator=generator) < 0.2] = 0
    return net.eval()


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


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", SHRINKING)
def test_a_kind_shrinks_to_the_same_outputs(name):
    torch.manual_seed(0)
    net, inputs = kill_units(KINDS[name].make().double()), KINDS[name].inputs()
    before = copy.deepcopy(net.state_dict())
    small = shrink(net, inputs)
    assert_same_outputs(net, small, KINDS[name].inputs())
    assert count_units(small) < count_units(net)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("name", [name for name in KINDS if name not in SHRINKING])
def test_a_kind_that_is_not_supported_is_refused_by_name(name):
    with pytest.raises(UserError, match=KINDS[name].refused):
        shrink(kill_units(KINDS[name].make().double()), KINDS[name].inputs())
