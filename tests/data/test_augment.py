"""Augmentation: each image by itself, nothing but moves, mirrors and one black square, the same after a resume."""

import pytest
import torch

from pyro_vd.data import LabeledImages
from pyro_vd.data.augment import AugmentedImages, average_flips, cutout, random_crop, random_flip
from pyro_vd.errors import UserError


def images(n=64, size=12):
    """Every pixel has a value of its own, above 0."""
    return torch.arange(1, n * 3 * size * size + 1, dtype=torch.float32).reshape(n, 3, size, size)


def test_a_crop_is_a_window_of_the_padded_image():
    """Where the shift is known the image is the reflected one, moved; every shift occurs."""
    before = images(600)
    after = random_crop(before, 2)
    assert after.shape == before.shape
    shifts = set()
    for old, new in zip(before, after, strict=True):
        padded = torch.nn.functional.pad(old[None], (2, 2, 2, 2), mode="reflect")[0]
        windows = {(i, j): padded[:, i : i + 12, j : j + 12] for i in range(5) for j in range(5)}
        found = [shift for shift, window in windows.items() if torch.equal(window, new)]
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) == 25
    assert torch.equal(random_crop(before, 0), before)


def test_half_of_the_images_are_mirrored():
    before = images(400)
    after = random_flip(before)
    turned = torch.tensor([torch.equal(new, old.flip(-1)) for old, new in zip(before, after, strict=True)])
    same = torch.tensor([torch.equal(new, old) for old, new in zip(before, after, strict=True)])
    assert (turned ^ same).all()
    assert 150 < turned.sum() < 250


def test_one_square_is_cut_out_inside_the_image_in_all_channels():
    before = images(400)
    after = cutout(before, 4)
    assert ((after == 0).sum((2, 3)) == 16).all()
    assert torch.equal(after[after != 0], before[after != 0])
    corners = {tuple((image[0] == 0).nonzero().amin(0).tolist()) for image in after}
    assert len(corners) > 60  # of 81
    assert max(max(corner) for corner in corners) == 8
    assert torch.equal(cutout(before, 0), before)


def test_batches_are_augmented_and_labels_are_not():
    examples = AugmentedImages((255 * torch.rand(20, 3, 32, 32)).to(torch.uint8), torch.arange(20))
    index = torch.tensor([3, 5, 7])
    x, y = examples.batch(index)
    assert (x.dtype, x.shape, y.tolist()) == (torch.float32, (3, 3, 32, 32), [3, 5, 7])
    plain, _ = LabeledImages(examples.images, examples.labels).batch(index)
    assert not torch.equal(x, plain)
    assert isinstance(examples.to("cpu"), AugmentedImages)
    torch.manual_seed(3)
    first, _ = examples.batch(index)
    torch.manual_seed(3)
    assert torch.equal(first, examples.batch(index)[0])


def test_images_that_may_not_be_mirrored_are_moved_alone():
    """Every window of every image occurs as it is, and none turned left to right."""
    before = images(400)
    examples = AugmentedImages(before, torch.arange(400), pad=1, cutout=0, flip=False).to("cpu")
    after, _ = examples.batch(torch.arange(400))
    padded = torch.nn.functional.pad(before, (1, 1, 1, 1), mode="reflect")
    windows = [padded[:, :, i : i + 12, j : j + 12] for i in range(3) for j in range(3)]
    same = torch.stack([(window == after).flatten(1).all(1) for window in windows])
    assert (same.sum(0) == 1).all()
    assert (same.sum(1) > 20).all()


@pytest.mark.parametrize("wrong", [{"pad": 32}, {"pad": -1}, {"cutout": 33}, {"cutout": -1}])
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(UserError, match="images have 32 pixels"):
        AugmentedImages(torch.zeros(2, 3, 32, 32), torch.zeros(2), **wrong)


@pytest.mark.parametrize("pad", [0, 4])
def test_pixels_stay_in_range(pad):
    x, _ = AugmentedImages(torch.full((4, 3, 32, 32), 255, dtype=torch.uint8), torch.zeros(4).long(), pad=pad).batch(
        torch.arange(4)
    )
    assert set(x.unique().tolist()) == {0.0, 1.0}


def test_the_average_over_flips_is_that_of_both_outputs():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 6, 5)).eval()
    images = torch.rand(7, 3, 8, 8)
    averaged = average_flips(net, images)
    torch.testing.assert_close(averaged, (net(images) + net(images.flip(3))) / 2)
    torch.testing.assert_close(average_flips(net, images.flip(3)), averaged)  # so it does not depend on the side
    assert not torch.allclose(averaged, net(images))
