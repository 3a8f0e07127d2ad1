"""Channels: labels that are merged, and their representatives."""

import pytest

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.rules.labels import OUTSIDE


def test_merged_labels_get_one_representative():
    channels = Channels()
    one, other, alone = channels.labels.make(2), channels.labels.make(2), channels.labels.make(1)
    channels.producers |= {"a": one, "b": other, "c": alone}
    channels.protected.update(other)
    channels.union(one, other)
    channels.replace_by_representatives()
    assert channels.producers["a"] == channels.producers["b"]
    assert len({*channels.producers["a"], *channels.producers["c"]}) == 3
    assert channels.protected == {OUTSIDE, *channels.producers["a"]}


def test_what_is_merged_with_the_outside_stays_and_merges_nothing_else():
    channels = Channels()
    labels = channels.labels.make(2)
    channels.union(labels, [OUTSIDE, OUTSIDE])
    assert channels.labels.find(labels[0]) != channels.labels.find(labels[1])
    assert channels.protected == {OUTSIDE, *labels}


def test_tied_labels_remain_channels_of_their_own():
    channels = Channels()
    one, other = channels.labels.make(2)
    channels.couple([one, other])
    (hub,) = {b for a, b in channels.dependencies if a == one}
    assert set(channels.dependencies) == {(one, hub), (hub, one), (other, hub), (hub, other)}
    assert channels.labels.find(one) != channels.labels.find(other)


def test_terms_of_other_lengths_are_not_merged():
    channels = Channels()
    with pytest.raises(ValueError, match="zip"):
        channels.union(channels.labels.make(2), channels.labels.make(3))
