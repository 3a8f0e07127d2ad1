"""Channels: labels that are merged, and their representatives."""

import pytest

from pyro_vd.compress.channels import Channels


def test_merged_labels_get_one_representative():
    channels = Channels()
    one, other, alone = channels.labels.make(2), channels.labels.make(2), channels.labels.make(1)
    channels.producers |= {"a": one, "b": other, "c": alone}
    channels.protected.update(other)
    channels.union(one, other)
    channels.replace_by_representatives()
    assert channels.producers["a"] == channels.producers["b"]
    assert len({*channels.producers["a"], *channels.producers["c"]}) == 3
    assert channels.protected == set(channels.producers["a"])


def test_terms_of_other_lengths_are_not_merged():
    channels = Channels()
    with pytest.raises(ValueError, match="zip"):
        channels.union(channels.labels.make(2), channels.labels.make(3))
