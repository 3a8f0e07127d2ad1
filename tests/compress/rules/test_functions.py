"""Rules of functions: their table, reductions, softmax, pools and normalization."""

import operator

import pytest
import torch
import torch.nn.functional as F
import torchvision

from pyro_vd.compress.rules.functions import FUNCTION_RULES
from pyro_vd.compress.rules.labels import OUTSIDE
from tests.compress.rules._calls import channels_on, label, without_channels

OWN = {"add_mask"}


def test_every_name_of_the_table_is_a_function_or_a_method():
    known = {*dir(torch), *dir(F), *dir(torch.Tensor), *dir(torchvision.ops), *dir(operator), *OWN}
    assert FUNCTION_RULES.keys() <= known


@pytest.mark.parametrize("function", [torch.sum, torch.mean, torch.amax, torch.std, torch.logsumexp])
def test_a_reduction_over_positions_keeps_the_channels_apart(function):
    channels, x = channels_on(1, 4, 2, 3, 5)
    assert label(lambda x: function(x, (2, 3)), channels, x).labels.tolist() == [[1, 2]]
    assert label(lambda x: function(x, -1, keepdim=True), channels, x).labels.shape == (1, 2, 1, 1)
    assert channels.protected == {OUTSIDE}


def test_a_reduction_over_channels_keeps_them():
    for reduce in (lambda x: x.sum(1), lambda x: x.mean(), lambda x: x.max(1)[0], lambda x: x.mean((1, 2))):
        channels, x = channels_on(1, 4, 2, 3)
        assert label(reduce, channels, x).is_outside
        assert channels.protected == {OUTSIDE, 1, 2}


def test_a_maximum_over_positions_has_an_index_too():
    channels, x = channels_on(1, 4, 2, 3)
    values, index = label(lambda x: x.max(2), channels, x)
    assert values.labels.tolist() == index.labels.tolist() == [[1, 2]]
    assert channels.protected == {OUTSIDE}


def test_a_softmax_over_channels_keeps_them_and_one_over_positions_does_not():
    channels, x = channels_on(1, 4, 2, 3)
    result = label(lambda x: x.softmax(-1), channels, x)
    assert channels.protected == {OUTSIDE}
    assert result.is_average
    assert not label(lambda x: x.softmax(1), channels, x).is_average
    assert channels.protected == {OUTSIDE, 1, 2}


def test_pools_and_resizing_of_positions():
    for function in (
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.interpolate(x, scale_factor=2.0),
    ):
        channels, x = channels_on(1, 4, 2, 4, 4)
        assert torch.equal(label(function, channels, x).labels, x.labels)
        assert channels.protected == {OUTSIDE}


def test_pools_over_channels_keep_them():
    channels, x = channels_on(2, 4, 3, 2)
    assert label(lambda x: F.avg_pool1d(x, 2), channels, x).is_outside
    assert channels.protected == {OUTSIDE, 1, 2}


def test_a_normalization_over_channels_keeps_them():
    channels, x = channels_on(2, 4, 3, 2)
    assert torch.equal(label(lambda x: F.layer_norm(x, (2,)), channels, x).labels, x.labels)
    assert channels.protected == {OUTSIDE, 1, 2}


def test_a_channel_and_its_gate_are_one():
    channels, x = channels_on(1, 4, 6, 3)
    assert label(lambda x: F.glu(x, 1), channels, x).labels.shape == (1, 3, 1)
    find = channels.labels.find
    assert [find(1), find(2), find(3)] == [find(4), find(5), find(6)]
    assert len({find(1), find(2), find(3)}) == 3
    assert channels.protected == {OUTSIDE}
    label(lambda x: F.glu(x, 1), channels, without_channels(4, 6, 3))


def test_a_gate_over_an_axis_of_positions_changes_no_channel():
    channels, x = channels_on(1, 4, 2, 6)
    assert label(F.glu, channels, x).labels.flatten().tolist() == [1, 2]
    assert channels.labels.find(1) != channels.labels.find(2)
