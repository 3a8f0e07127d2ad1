"""The images of a spec: the right ones, of the network's shape, changed in training alone."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from pyro_vd.data import DataSplits, LabeledImages, load
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments.common import images
from pyro_vd.experiments.common.images import adapt, check_last_batch, choose_dataset, load_images
from pyro_vd.experiments.common.spec import Data
from pyro_vd.models import VGG, LeNet300
from tests.tiny import Tiny


def digits(**changes):
    return load_images(Data(name="digits", **changes), Tiny(), None)


def test_auto_says_loudly_that_it_is_not_mnist(tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("pyro_vd.data.download._is_reachable", lambda *_: True)
    assert choose_dataset("auto", tmp_path) == "digits"
    said = capsys.readouterr().out
    assert "NOT mnist" in said
    assert "unreachable" in said


def test_auto_is_the_preferred_dataset_if_it_is_there(monkeypatch, capsys):
    monkeypatch.setattr(images, "load", lambda name, folder: load("digits"))
    assert choose_dataset("auto", None, "cifar10") == "cifar10"
    assert capsys.readouterr().out.startswith("dataset: digits")
    assert choose_dataset("my/pictures", None) == "my/pictures"


def test_a_dataset_that_was_asked_for_by_name_is_not_replaced(tmp_path, monkeypatch):
    def lacking(*_):
        raise DataError("no such file")

    monkeypatch.setattr(images, "load", lacking)
    assert choose_dataset("mnist", tmp_path) == "mnist"
    with pytest.raises(DataError):
        load_images(Data(name="mnist"), LeNet300(), tmp_path)


def test_images_are_as_they_were_if_nothing_is_changed():
    split = digits()
    assert torch.equal(split.train.images, load("digits").train.images)
    assert split.name == load("digits").name


@pytest.mark.parametrize(
    ("net", "size", "shape"),
    [
        (LeNet300(), None, (1, 28, 28)),
        (VGG(10, 1 / 16), None, (3, 32, 32)),
        (VGG(10, 1 / 16), 16, (3, 16, 16)),
        (nn.Conv2d(3, 1, 1), None, (3, 8, 8)),
        (nn.Conv2d(1, 1, 1), 4, (1, 4, 4)),
        (nn.Linear(64, 10), None, (1, 8, 8)),
    ],
    ids=["shape", "color", "size", "convolution", "both", "neither"],
)
def test_images_get_the_shape_of_the_network(net, size, shape):
    split = adapt(load("digits"), net, size)
    assert split.train.images.shape[1:] == split.test.images.shape[1:] == shape


def test_validation_images_are_of_the_training_set():
    split = digits(validation=200)
    assert (len(split.train), len(split.test)) == (1238, 200)
    assert "validation 200" in split.name


def test_parts_are_taken_after_the_validation_images():
    split = digits(validation=200, num_train=30, num_test=20)
    assert (len(split.train), len(split.test)) == (30, 20)
    held = {image.numpy().tobytes() for image in digits(validation=200).test.images}
    assert all(image.numpy().tobytes() in held for image in split.test.images)


@pytest.mark.parametrize("part", [{"num_train": 30}, {"num_test": 20}], ids=lambda part: next(iter(part)))
def test_a_part_of_one_set_leaves_the_other(part):
    split = digits(**part)
    assert (len(split.train), len(split.test)) == (part.get("num_train", 1438), part.get("num_test", 359))


@pytest.mark.parametrize(
    ("changes", "how"), [({"shift": 2}, (2, 0, False)), ({"augment": True}, (4, 16, True))], ids=["shift", "augment"]
)
def test_images_are_moved_in_training_alone(changes, how):
    """What is measured, and where running averages are taken, is as it was."""
    moving, still = digits(**changes), digits()
    assert isinstance(moving.train, AugmentedImages)
    assert not isinstance(moving.test, AugmentedImages)
    index = torch.arange(50)
    assert not torch.equal(moving.train.batch(index)[0], still.train.batch(index)[0])
    assert torch.equal(moving.test.batch(index)[0], still.test.batch(index)[0])
    assert torch.equal(moving.train.images, still.train.images)
    if "shift" in changes:
        assert (moving.train.pad, moving.train.cutout, moving.train.flip) == how


@pytest.mark.parametrize("shift", [-1, 8, 100])
def test_a_shift_beyond_the_image_is_refused(shift):
    with pytest.raises(UserError, match=f"--shift {shift}: must lie between 0 and 7"):
        digits(shift=shift)


def test_labels_are_shuffled_in_training_alone_by_the_seed():
    """A share of them; each label is as frequent as before."""
    plain = digits()
    make = partial(load_images, Data(name="digits", shuffled=0.5), Tiny(), None)
    half, again, other = make(0), make(0), make(1)
    changed = half.train.labels != plain.train.labels
    assert 0.35 < changed.double().mean() < 0.5  # a tenth of the permuted stay what they were
    assert torch.equal(half.train.labels.bincount(), plain.train.labels.bincount())
    assert torch.equal(half.train.labels, again.train.labels)
    assert not torch.equal(half.train.labels, other.train.labels)
    assert torch.equal(half.test.labels, plain.test.labels)
    assert half.name == f"{plain.name} (50 % shuffled)"
    whole = load_images(Data(name="digits", shuffled=1.0), Tiny(), None)
    assert (whole.train.labels != plain.train.labels).double().mean() > 0.8


def split_of(count):
    examples = LabeledImages(torch.zeros(count, 1, 8, 8), torch.zeros(count, dtype=torch.int64))
    return DataSplits("zeros", "folder", examples, examples, 10, "0")


def test_batch_normalization_needs_two_examples():
    norm, plain = nn.Sequential(nn.Linear(64, 2), nn.BatchNorm1d(2)), nn.Linear(64, 2)
    for count, size, refused in ((10, 3, True), (10, 4, False), (10, 1, True), (1, 5, True), (10, 9, True)):
        check_last_batch(plain, split_of(count), size)
        if refused:
            with pytest.raises(UserError, match=f"--batch-size {size} leaves a batch of one of {count} images"):
                check_last_batch(norm, split_of(count), size)
        else:
            check_last_batch(norm, split_of(count), size)


def test_the_name_says_all_that_was_changed():
    split = load_images(replace(Data(name="digits"), validation=100, num_train=50, num_test=40), LeNet300(), None)
    assert split.name == "digits (28x28) (validation 100) (50 and 40 images)"


def test_a_folder_of_images_has_one_name(tmp_path, monkeypatch):
    """However it is written: another name would be another run."""
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("pictures", "pictures/", "./pictures/../pictures", str(tmp_path / "pictures")):
        assert choose_dataset(name, None) == str(tmp_path / "pictures")


@pytest.mark.parametrize("cutout", [0, 2])
def test_augmentation_has_the_cutout_of_the_data(cutout):
    train = load_images(Data(name="digits", augment=True, cutout=cutout), Tiny(), None).train
    assert (train.pad, train.cutout, train.flip) == (4, cutout, True)
