"""Image folders as datasets, and refusals that name the folder or the file."""

import pytest
import torch

from pyro_vd.data import load
from pyro_vd.errors import DataError
from tests.data._files import draw


def test_an_image_folder_is_a_dataset(pictures):
    split = load(str(pictures))
    assert (split.name, split.classes) == ("shapes", 2)
    assert split.train.images.shape == (6, 3, 5, 6)
    assert split.train.images.dtype == torch.uint8
    assert split.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert split.test.labels.tolist() == [0, 0, 1, 1]
    assert split.train.labels.dtype == torch.int64
    assert split.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 50, 51, 52]
    assert split.train.images[4, :, 2, 3].tolist() == [51, 102, 255]


def test_the_digest_of_an_image_folder_follows_its_pixels(pictures):
    before = load(str(pictures)).sha256
    assert load(str(pictures)).sha256 == before
    draw(pictures / "test" / "square" / "0.png", 99)
    assert load(str(pictures)).sha256 != before


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_missing_part_is_refused(pictures, part):
    (pictures / part).rename(pictures / "elsewhere")
    with pytest.raises(DataError, match=r"shapes.*needs train/ and test/"):
        load(str(pictures))


def test_different_classes_are_refused(pictures):
    (pictures / "test" / "circle").rename(pictures / "test" / "oval")
    with pytest.raises(DataError, match=r"shapes.*different classes"):
        load(str(pictures))


def test_an_empty_class_is_refused(pictures):
    (pictures / "train" / "zigzag").mkdir()
    with pytest.raises(DataError, match=r"train.*zigzag"):
        load(str(pictures))


def test_a_part_without_classes_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="train"):
        load(str(tmp_path))


def test_another_size_within_a_part_names_the_file(pictures):
    draw(pictures / "train" / "square" / "1.png", 9, size=(5, 6))
    with pytest.raises(DataError, match=r"square.1\.png.*\(6, 5\).*\(5, 6\)"):
        load(str(pictures))


def test_another_size_in_the_test_part_is_refused(pictures):
    for path in (pictures / "test").rglob("*.png"):
        draw(path, 1, size=(7, 7))
    with pytest.raises(DataError, match="differ in size"):
        load(str(pictures))
