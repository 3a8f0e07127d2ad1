"""Elementwise operations: which channels become one, stay, or get values from elsewhere."""

import torch

from pyro_vd.compress.rules.labels import OUTSIDE
from tests.compress.rules._calls import channels_on, label, make_on, without_channels


def find(channels, labeled):
    return [channels.labels.find(one) for one in labeled.labels.flatten().tolist()]


def test_a_sum_merges_its_terms_one_by_one():
    channels, x = channels_on(1, 4, 3, 5, 5)
    y = make_on(channels, 1, 4, 3, 1, 1)
    result = label(torch.add, channels, x, y)
    assert find(channels, x) == find(channels, y) == find(channels, result)
    assert len(set(find(channels, x))) == 3
    assert channels.protected == {OUTSIDE}


def test_what_has_one_entry_for_all_channels_stays_and_enters_them():
    """A map over positions, as spatial attention has. Kills: a union of all channels; constants that are none."""
    channels, x = channels_on(1, 4, 3, 5, 5)
    gate = make_on(channels, 1, 4, 1, 5, 5)
    result = label(torch.mul, channels, x, gate)
    assert find(channels, result) == find(channels, x)
    assert len(set(find(channels, x))) == 3
    assert channels.protected == {OUTSIDE, *find(channels, gate)}
    assert channels.mixed == set(find(channels, x))


def test_an_input_of_as_many_entries_keeps_the_channels():
    channels, x = channels_on(1, 4, 3)
    label(torch.add, channels, x, without_channels(4, 3))
    assert channels.protected >= set(find(channels, x))


def test_an_own_number_changes_no_channel():
    channels, x = channels_on(1, 4, 3)
    label(torch.mul, channels, x, without_channels(1, from_inputs=False))
    assert channels.protected == {OUTSIDE}
    assert channels.mixed == set()


def test_an_input_of_one_entry_makes_constants_vary():
    channels, x = channels_on(1, 4, 3)
    label(torch.mul, channels, x, without_channels(4, 1))
    assert channels.protected == {OUTSIDE}
    assert channels.mixed == set(find(channels, x))
