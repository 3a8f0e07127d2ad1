"""Products of two tensors: heads of attention, mixed positions, and sums over channels."""

import torch
import torch.nn.functional as F

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.rules.labels import OUTSIDE, Labeled
from tests.compress.rules._calls import channels_on, label, make_on, without_channels


def heads_on(channels, heads=2, tokens=5, features=3):
    """(batch, heads, tokens, features)."""
    labels = torch.tensor(channels.labels.make(heads * features)).view(1, heads, 1, features)
    return Labeled((4, heads, tokens, features), labels)


def kept_with(channels, label_):
    """All labels that stay if this one stays."""
    kept = {label_}
    while more := {b for a, b in channels.dependencies if a in kept} - kept:
        kept |= more
    return kept


def attention(query, key, value):
    return (query @ key.transpose(-2, -1)).softmax(-1) @ value


def test_a_head_keeps_its_queries_keys_and_values_and_no_other_ones():
    for function in (attention, F.scaled_dot_product_attention):
        channels = Channels()
        query, key, value = heads_on(channels), heads_on(channels), heads_on(channels)
        result = label(function, channels, query, key, value)
        assert torch.equal(result.labels, value.labels)
        expected = {*query.labels[0, 0].flatten().tolist(), *key.labels[0, 0].flatten().tolist()}
        kept = kept_with(channels, int(value.labels[0, 0, 0, 1]))
        assert expected | set(value.labels[0, 0].flatten().tolist()) <= kept
        assert not kept & set(query.labels[0, 1].flatten().tolist())
        assert channels.followers == {*query.labels.flatten().tolist(), *key.labels.flatten().tolist()}
        assert channels.protected == {OUTSIDE}
        assert not channels.mixed & set(value.labels.flatten().tolist())  # weights that sum to 1 keep a constant


def test_weights_that_do_not_sum_to_1_make_constants_vary():
    channels = Channels()
    query, key, value = heads_on(channels), heads_on(channels), heads_on(channels)
    label(lambda q, k, v: (q @ k.mT).relu() @ v, channels, query, key, value)
    assert channels.mixed == set(value.labels.flatten().tolist())
    channels = Channels()
    query, key, value = heads_on(channels), heads_on(channels), heads_on(channels)
    label(lambda q, k, v: (q @ k.mT).softmax(-2) @ v, channels, query, key, value)
    assert channels.mixed >= set(value.labels.flatten().tolist())


def test_features_of_a_single_head_go_one_by_one():
    channels, value = channels_on(2, 4, 5, 3)
    query, key = make_on(channels, 2, 4, 5, 2), make_on(channels, 2, 4, 5, 2)
    label(attention, channels, query, key, value)
    kept = kept_with(channels, 1)
    assert kept >= {1, *query.labels.flatten().tolist(), *key.labels.flatten().tolist()}
    assert not kept & {2, 3}


def test_a_graph_mixes_positions():
    channels, x = channels_on(2, 4, 5, 3)
    result = label(torch.bmm, channels, without_channels(4, 5, 5), x)
    assert result.labels.tolist() == x.labels.tolist()
    assert channels.protected == {OUTSIDE}
    assert channels.mixed == {1, 2, 3}


def test_a_product_with_an_own_matrix_keeps_the_channels():
    channels, x = channels_on(1, 4, 3)
    result = label(torch.matmul, channels, x, without_channels(3, 7, from_inputs=False))
    assert result.is_outside
    assert channels.protected == {OUTSIDE, 1, 2, 3}


def test_a_mask_of_each_head_keeps_the_heads():
    channels = Channels()
    query, key, value = heads_on(channels), heads_on(channels), heads_on(channels)
    label(F.scaled_dot_product_attention, channels, query, key, value, without_channels(2, 5, 5))
    (score,) = {a for a, b in channels.dependencies if b in kept_with(channels, 1) and a in channels.protected}
    assert kept_with(channels, score) >= set(value.labels[0, 0].flatten().tolist())


def test_a_graph_for_each_head_keeps_the_heads_and_one_graph_does_not():
    for shape, protected in (((4, 1, 5, 5), {OUTSIDE}), ((4, 2, 5, 5), {OUTSIDE, *range(1, 7)})):
        channels = Channels()
        value = heads_on(channels)
        assert torch.equal(label(torch.matmul, channels, without_channels(*shape), value).labels, value.labels)
        assert channels.protected == protected
