"""Datasets by name: the digits, and names that are not known."""

import hashlib
from pathlib import Path

import pytest
import torch

from pyro_vd.data import datasets, load
from pyro_vd.errors import DataError, UserError


def test_digits_sizes_and_ranges(digits):
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert digits.train.images.shape == (1438, 1, 8, 8)
    assert digits.test.images.shape == (359, 1, 8, 8)
    assert (digits.name, digits.classes) == ("digits", 10)
    for part in (digits.train, digits.test):
        assert part.images.dtype == torch.float32
        assert part.labels.dtype == torch.int64
        assert (part.images.min(), part.images.max()) == (0, 1)
        assert part.labels.unique().tolist() == list(range(10))


def test_digits_test_set_is_every_fifth_image(digits):
    """Kills a test set that overlaps the training set, or that leaves images out."""
    from sklearn.datasets import load_digits

    pixels = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)
    assert torch.equal(digits.test.images, pixels[4::5])
    rest = torch.ones(len(pixels), dtype=torch.bool)
    rest[4::5] = False
    assert torch.equal(digits.train.images, pixels[rest])


def test_digits_are_the_same_every_time_and_the_digest_covers_everything(digits):
    again = load("digits", folder="/nonexistent", download=False)
    assert again.sha256 == digits.sha256
    content = b"".join(
        tensor.numpy().tobytes() for part in (again.train, again.test) for tensor in (part.images, part.labels)
    )
    assert again.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("wrong", "right"), [("mnits", "mnist"), ("fashion-mnist", "fashion_mnist"), ("DIGIT", "digits")]
)
def test_an_unknown_name_gives_the_nearest(wrong, right):
    with pytest.raises(UserError) as caught:
        load(wrong)
    message = str(caught.value)
    assert repr(wrong) in message
    assert f"did you mean '{right}" in message
    assert all(name in message for name in datasets.DATASETS)
    assert not isinstance(caught.value, DataError)


@pytest.mark.parametrize("name", ["imagenet", "", "x" * 300, "a\0b", Path("/nowhere")])
def test_a_name_near_none_suggests_none(name):
    with pytest.raises(UserError, match="unknown dataset") as caught:
        load(name)
    assert "did you mean" not in str(caught.value)
    assert all(known in str(caught.value) for known in datasets.DATASETS)
