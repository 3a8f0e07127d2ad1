"""Labeled images: batches of network inputs, and refusals of images and labels that do not fit."""

import pytest
import torch

from pyro_vd.data import LabeledImages
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import UserError


def test_batches_of_bytes_are_scaled_to_the_unit_interval():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)
    examples = LabeledImages(images, torch.tensor([5, 6, 7]))
    x, y = examples.batch(torch.tensor([2, 0, 1]))
    assert x.dtype == torch.float32
    assert torch.allclose(x.flatten(), torch.tensor([1.0, 0.0, 0.2]))
    assert y.tolist() == [7, 5, 6]
    assert examples.images.dtype == torch.uint8
    assert images.flatten().tolist() == [0, 51, 255]  # the stored images are not scaled in place


def test_batches_of_floats_are_left_alone():
    images = torch.tensor([-3.0, 0.5, 300.0]).reshape(3, 1, 1, 1)
    x, _ = LabeledImages(images, torch.zeros(3, dtype=torch.int64)).batch(torch.arange(3))
    assert x.flatten().tolist() == [-3.0, 0.5, 300.0]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(4, 1, 2, 2), torch.zeros(3, dtype=torch.int64), "4 images and 3 labels"),
        (torch.zeros(3, 1, 2, 2), torch.zeros(4, dtype=torch.int64), "3 images and 4 labels"),
        (torch.zeros(3, 1, 2, 2), torch.tensor(1), "3 images and 0 labels"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.float16), torch.zeros(3, dtype=torch.int64), "images of float16"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "images of int64.*uint8"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.bool), torch.zeros(3, dtype=torch.int64), "images of bool"),
    ],
)
@pytest.mark.parametrize("kind", [LabeledImages, AugmentedImages])
def test_examples_that_do_not_fit_are_refused_when_made(kind, images, labels, message):
    with pytest.raises(UserError, match=message):
        kind(images, labels)
