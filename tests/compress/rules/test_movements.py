"""Reshapes, slices, concatenations, padding: labels move as the elements do; numbers in the code keep channels."""

import torch
import torch.nn.functional as F

from pyro_vd.compress.rules.labels import OUTSIDE
from tests.compress.rules._calls import channels_on, label, make_on, without_channels


def coupled_sets(channels):
    """Sets of labels that are coupled."""
    hubs = {}
    for label_, hub in channels.dependencies:
        if (hub, label_) in channels.dependencies and hub > label_:
            hubs.setdefault(hub, set()).add(label_)
    return sorted(map(sorted, hubs.values()))


def test_flattening_repeats_a_channel_for_each_position():
    channels, x = channels_on(1, 4, 2, 3, 1)
    assert label(torch.flatten, channels, x, 1).labels.tolist() == [[1, 1, 1, 2, 2, 2]]


def test_a_number_of_channels_in_the_code_keeps_them():
    channels, x = channels_on(1, 4, 2, 3, 1)
    assert label(lambda x: x.view(-1, 6), channels, x).labels.tolist() == [[1, 1, 1, 2, 2, 2]]
    assert channels.protected == {OUTSIDE, 1, 2}
    for function in (lambda x: x.view(4, -1), lambda x: x.reshape(x.size(0), 2 * x.size(2)), lambda x: x.flatten(1)):
        channels, x = channels_on(1, 4, 2, 3, 1)
        label(function, channels, x)
        assert channels.protected == {OUTSIDE}


def test_permutations_move_the_channels():
    channels, x = channels_on(1, 4, 3, 2, 2)
    assert label(lambda x: x.flatten(2).transpose(1, 2), channels, x).labels.tolist() == [[[1, 2, 3]]]
    assert channels.protected == {OUTSIDE}


def test_an_axis_of_channels_is_never_squeezed():
    channels, x = channels_on(1, 4, 5, 1, 1)
    assert label(lambda x: x.squeeze(), channels, x).labels.tolist() == [[1, 2, 3, 4, 5]]
    assert channels.protected == {OUTSIDE, 1, 2}
    channels, x = channels_on(1, 4, 5, 1)
    assert label(lambda x: x.squeeze(-1), channels, x).labels.tolist() == [[1, 2, 3, 4, 5]]
    assert channels.protected == {OUTSIDE}


def test_open_heads_are_whole():
    """Kills: features of a head that go one by one."""
    channels, x = channels_on(2, 4, 5, 6)
    heads = label(lambda x: x.view(x.size(0), x.size(1), -1, 3), channels, x)
    assert heads.labels.shape == (1, 1, 2, 3)
    assert coupled_sets(channels) == [[1, 2, 3], [4, 5, 6]]
    assert channels.protected == {OUTSIDE}


def test_a_fixed_number_of_groups_keeps_them_equal():
    channels, x = channels_on(1, 4, 6, 2, 2)
    label(lambda x: x.view(x.size(0), 2, x.size(1) // 2, 2, 2).transpose(1, 2), channels, x)
    assert coupled_sets(channels) == [[1, 4], [2, 5], [3, 6]]


def test_heads_whose_number_and_width_are_fixed_stay():
    channels, x = channels_on(2, 4, 5, 6)
    label(lambda x: x.view(4, 5, 2, 3), channels, x)
    assert channels.protected == {OUTSIDE, *range(1, 7)}
    channels, x = channels_on(2, 4, 5, 6)
    label(lambda x: x.unflatten(-1, (-1, 3)), channels, x)
    assert coupled_sets(channels) == [[1, 2, 3], [4, 5, 6]]


def test_slices_of_positions_are_free_and_slices_of_channels_keep_them():
    channels, x = channels_on(1, 4, 3, 6)
    assert label(lambda x: x[:, :, ::2], channels, x).labels.shape == (1, 3, 1)
    assert label(lambda x: x[..., -1], channels, x).labels.tolist() == [[1, 2, 3]]
    assert channels.protected == {OUTSIDE}
    assert label(lambda x: x[:, 1:], channels, x).labels.flatten().tolist() == [2, 3]
    assert channels.protected == {OUTSIDE, 1, 2, 3}


def test_an_index_that_is_a_tensor_keeps_the_channels():
    channels, x = channels_on(1, 4, 3)
    indices = without_channels(2, from_inputs=False)
    assert label(lambda x, index: x[:, index.long()], channels, x, indices).is_outside
    assert channels.protected == {OUTSIDE, 1, 2, 3}


def test_chunks_keep_their_lengths_equal():
    channels, x = channels_on(1, 4, 6)
    one, other = label(lambda x: x.chunk(2, 1), channels, x)
    assert (one.labels.tolist(), other.labels.tolist()) == ([[1, 2, 3]], [[4, 5, 6]])
    assert coupled_sets(channels) == [[1, 4], [2, 5], [3, 6]]
    channels, x = channels_on(1, 4, 5)
    label(lambda x: x.chunk(2, 1), channels, x)
    assert channels.protected == {OUTSIDE, 1, 2, 3, 4, 5}


def test_channels_are_concatenated_and_positions_are_merged():
    channels, x = channels_on(1, 4, 2, 3)
    y = make_on(channels, 1, 4, 2, 3)
    assert label(lambda x, y: torch.cat([x, y, x], 1), channels, x, y).labels.flatten().tolist() == [1, 2, 3, 4, 1, 2]
    assert channels.labels.find(1) != channels.labels.find(3)
    assert label(lambda x, y: torch.cat([x, y], 2), channels, x, y).labels.shape == (1, 2, 1)
    assert channels.labels.find(1) == channels.labels.find(3)
    token = without_channels(4, 2, 1)
    label(lambda x, y: torch.cat([x, y], -1), channels, x, token)
    assert channels.protected >= {1, 2}


def test_stacked_tensors_are_merged():
    channels, x = channels_on(1, 4, 2)
    y = make_on(channels, 1, 4, 2)
    assert label(lambda x, y: torch.stack([x, y], 1), channels, x, y).labels.shape == (1, 1, 2)
    assert channels.labels.find(2) == channels.labels.find(4)


def test_padding_of_channels_adds_none():
    channels, x = channels_on(1, 4, 2, 3)
    assert label(lambda x: F.pad(x, (1, 1)), channels, x).labels.flatten().tolist() == [1, 2]
    padded = label(lambda x: F.pad(x, (0, 0, 1, 2), value=3.0), channels, x)
    assert padded.labels.flatten().tolist() == [OUTSIDE, 1, 2, OUTSIDE, OUTSIDE]
    assert channels.protected == {OUTSIDE}
    label(lambda x: F.pad(x.transpose(1, 2), (1, 1), mode="reflect"), channels, x)
    assert channels.protected == {OUTSIDE, 1, 2}


def test_shuffled_pixels_are_one_channel():
    channels, x = channels_on(1, 4, 8, 2, 2)
    result = label(lambda x: F.pixel_shuffle(x, 2), channels, x)
    assert result.labels.shape == (1, 2, 1, 1)
    assert len({channels.labels.find(one) for one in range(1, 5)}) == 1
    assert channels.labels.find(1) != channels.labels.find(5)


def test_shuffled_channels_are_equal_in_each_group():
    channels, x = channels_on(1, 4, 6, 2, 2)
    assert label(lambda x: F.channel_shuffle(x, 2), channels, x).labels.flatten().tolist() == [1, 4, 2, 5, 3, 6]
    assert coupled_sets(channels) == [[1, 4], [2, 5], [3, 6]]
