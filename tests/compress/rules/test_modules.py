"""Rules of layers: what they read and produce, groups, embeddings, normalization and recurrent networks."""

import pytest
import torch
from torch import fx, nn

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.recurrent import SplitRecurrent
from pyro_vd.compress.rules.calls import Call
from pyro_vd.compress.rules.labels import OUTSIDE
from pyro_vd.compress.rules.modules import rule_of_module
from pyro_vd.errors import UserError
from tests.compress.rules._calls import channels_on, without_channels


def apply(module, channels, source, *others):
    """The labels of the layer's result."""
    results = module.eval()(torch.zeros(source.shape, dtype=torch.long if is_embedding(module) else None))
    shapes = [tuple(leaf.shape) for leaf in torch.utils._pytree.tree_leaves(results)]
    call = Call("layer", fx.Graph().placeholder("x"), module, (source, *others), {}, shapes)
    return rule_of_module(module)(call, channels)


def is_embedding(module):
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)


def kept_with(channels, label):
    kept = {label}
    while more := {b for a, b in channels.dependencies if a in kept} - kept:
        kept |= more
    return kept


LAYERS = {
    "Linear": (nn.Linear(3, 2), 2, (4, 5, 3)),
    "Conv2d": (nn.Conv2d(3, 2, 1), 1, (4, 3, 5, 5)),
    "ConvTranspose1d": (nn.ConvTranspose1d(3, 2, 1), 1, (4, 3, 5)),
}


@pytest.mark.parametrize(("layer", "axis", "shape"), LAYERS.values(), ids=LAYERS)
def test_a_layer_reads_channels_and_makes_new_ones(layer, axis, shape):
    channels, x = channels_on(axis, *shape)
    made = apply(layer, channels, x)
    assert channels.consumers == {"layer": [1, 2, 3]}
    assert channels.producers == {"layer": [4, 5]}
    assert made.shape == tuple(2 if index == axis else 1 for index in range(len(shape)))
    assert channels.protected == {OUTSIDE}
    assert torch.equal(apply(layer, channels, x), made)  # a layer that is called twice has one set of outputs


def test_a_linear_layer_may_mix_positions():
    channels, x = channels_on(1, 4, 2, 3)
    assert torch.equal(apply(nn.Linear(3, 5), channels, x), x.labels)
    assert channels.producers == {}


def test_channels_on_two_axes_stay():
    channels, x = channels_on(1, 4, 3, 2)
    x = type(x)(x.shape, torch.arange(1, 4).view(1, 3, 1) + torch.tensor([0, 3]))
    channels.labels.make(3)
    apply(nn.Linear(2, 2), channels, x)
    assert channels.protected == {OUTSIDE, *range(1, 7)}
    assert channels.consumers == {"layer": [OUTSIDE, OUTSIDE]}


def test_inputs_and_outputs_of_a_group_are_coupled():
    channels, x = channels_on(1, 4, 4, 3)
    apply(nn.Conv1d(4, 2, 1, groups=2), channels, x)
    assert kept_with(channels, 1) >= {1, 2, 5}
    assert not kept_with(channels, 1) & {3, 4, 6}


def test_columns_of_an_embedding_are_channels():
    channels = Channels()
    tokens = without_channels(4, 5)
    assert apply(nn.Embedding(7, 2), channels, tokens).tolist() == [[[1, 2]]]
    assert channels.consumers == {"layer": [OUTSIDE] * 7}
    assert apply(nn.EmbeddingBag(7, 2), Channels(), tokens).tolist() == [[1, 2]]
    with pytest.raises(UserError, match=r"with max_norm .*; normalize its rows once"):
        apply(nn.Embedding(7, 2, max_norm=1.0), Channels(), tokens)


def test_a_value_for_each_channel_goes_with_it():
    for module in (nn.BatchNorm1d(2), nn.InstanceNorm1d(2), nn.PReLU(2)):
        channels, x = channels_on(1, 4, 2, 3)
        assert torch.equal(apply(module, channels, x), x.labels)
        assert channels.norms == {"layer": [1, 2]}
    channels, x = channels_on(1, 4, 2, 3)
    apply(nn.PReLU(), channels, x)
    assert channels.norms == {}


def test_channels_of_a_group_that_is_normalized_are_one():
    channels, x = channels_on(1, 4, 4, 3)
    apply(nn.GroupNorm(2, 4), channels, x)
    find = channels.labels.find
    assert find(1) == find(2) != find(3) == find(4)
    assert channels.protected == {OUTSIDE}
    apply(nn.GroupNorm(2, 4, affine=False), channels, x)
    assert channels.protected == {OUTSIDE, 1, 2, 3, 4}


def test_a_normalization_over_channels_keeps_them():
    for module in (nn.LayerNorm(2), nn.RMSNorm(2), nn.Softmax(-1)):
        channels, x = channels_on(2, 4, 3, 2)
        assert torch.equal(apply(module, channels, x), x.labels)
        assert channels.protected == {OUTSIDE, 1, 2}


def test_a_hidden_unit_has_a_row_of_each_gate():
    channels, x = channels_on(2, 4, 5, 3)
    output, (last, _) = apply(SplitRecurrent(nn.LSTM(3, 2, num_layers=2)), channels, x)
    first, second = [4, 5], [6, 7]
    assert channels.consumers == {
        "layer.ih_l0": [1, 2, 3], "layer.hh_l0": first, "layer.ih_l1": first, "layer.hh_l1": second,
    }  # fmt: skip
    assert channels.producers["layer.ih_l0"] == channels.producers["layer.hh_l0"] == first * 4
    assert channels.equal == [[first, second]]
    assert output.tolist() == [[second]]
    assert last.tolist() == [[first], [second]]


def test_layers_without_a_rule_have_none():
    assert rule_of_module(nn.Bilinear(2, 2, 2)) is None
    assert rule_of_module(nn.LSTMCell(2, 2)) is None
