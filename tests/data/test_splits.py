"""Training and test sets: sizes, channels, subsets, validation sets, and names that say what was done."""

import pytest
import torch

from pyro_vd.data import DataSplits, LabeledImages, load
from pyro_vd.errors import UserError


def split_of(images):
    examples = LabeledImages(images, torch.arange(len(images)))
    return DataSplits("made up", "folder", examples, examples, classes=len(images), sha256="0" * 64)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int32)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3)),
    ],
)
def test_a_split_is_of_images_and_whole_labels(images, labels):
    good = LabeledImages(torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    for train, test in ((LabeledImages(images, labels), good), (good, LabeledImages(images, labels))):
        with pytest.raises(UserError, match=r"mine: images .*int64 labels \(n,\) are needed"):
            DataSplits("mine", "folder", train, test, classes=2, sha256="0")


def test_resizing_keeps_bytes_bytes_and_says_so_in_the_name():
    images = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    resized = split_of(images).resize(28)
    assert resized.name == "made up (28x28)"
    for part in (resized.train, resized.test):
        assert part.images.shape == (2, 3, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.images.min() == 255  # kills a wrap-around and a missing rounding
        assert part.labels.tolist() == [0, 1]


def test_resizing_to_the_same_size_changes_nothing():
    split = split_of(torch.zeros(2, 1, 8, 8))
    assert split.resize(8) is split


def test_resizing_one_side_is_resizing():
    split = split_of(torch.zeros(2, 1, 4, 8))
    assert split.resize(8).train.images.shape == (2, 1, 8, 8)
    assert split.resize(4).train.images.shape == (2, 1, 4, 4)


def test_resized_digits_stay_in_range_and_are_bilinear(digits):
    resized = digits.resize(28)
    assert resized.sha256 == digits.sha256  # of the source: the name says what was done to it
    assert resized.train.images.shape == (1438, 1, 28, 28)
    assert resized.train.images.min() >= 0
    assert resized.train.images.max() <= 1
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    center = split_of(ramp).resize(28).train.images[0, 0, 14, 2:26]
    assert torch.allclose(center.diff(), torch.full((23,), 8 / 28), atol=1e-5)


def test_validation_is_disjoint_complete_and_fixed(digits):
    numbered = LabeledImages(torch.arange(100.0).reshape(100, 1, 1, 1), torch.arange(100))
    split = DataSplits(
        "numbers", "folder", numbered, LabeledImages(numbered.images[:3] + 1000, numbered.labels[:3]), 100, "0"
    )
    held = split.hold_out(20)
    assert (len(held.train), len(held.test)) == (80, 20)
    assert sorted([*held.train.labels.tolist(), *held.test.labels.tolist()]) == list(range(100))
    for part in (held.train, held.test):
        assert torch.equal(part.images.flatten().long(), part.labels)
    torch.manual_seed(123)  # a global seed must not move the split
    again = split.hold_out(20)
    assert torch.equal(again.test.labels, held.test.labels)
    assert not torch.equal(split.hold_out(20, seed=1).test.labels, held.test.labels)
    assert held.test.labels.tolist() != list(range(80, 100))  # shuffled: files are often sorted by class
    assert held.name == "numbers (validation 20)"


@pytest.mark.parametrize("count", [-1, 0, 1438, 2000])
def test_a_validation_set_that_does_not_fit_is_refused(digits, count):
    with pytest.raises(UserError, match=rf"{count}.*1438"):
        digits.hold_out(count)


def test_to_moves_both_parts():
    moved = split_of(torch.zeros(2, 1, 8, 8)).to("meta")
    assert {moved.train.images.device.type, moved.test.labels.device.type} == {"meta"}


def test_channels_and_sizes_of_a_split():
    digits = load("digits")
    color = digits.to_rgb()
    assert color.train.images.shape[1] == 3
    assert torch.equal(color.train.images[:, 0], digits.train.images[:, 0])
    assert color.to_rgb() is color
    assert color.name == "digits (3 channels)"
    small = digits.subset(100, 50)
    assert (len(small.train), len(small.test)) == (100, 50)
    assert small.name == "digits (100 and 50 images)"
    assert torch.equal(small.train.images, digits.subset(100, 50).train.images)
    assert small.train.labels.unique().numel() == 10
    whole = digits.subset(10**6, 10**6)
    assert (len(whole.train), len(whole.test)) == (len(digits.train), len(digits.test))
