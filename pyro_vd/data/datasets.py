"""Loads datasets by name as tensors. Files are found in the data folder, verified, or downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from pyro_vd.data import cifar
from pyro_vd.data.cache import data_folder, find_or_download
from pyro_vd.data.image_folder import load_image_folder
from pyro_vd.data.labeled_images import LabeledImages
from pyro_vd.data.mnist import IDX_SETS, load_idx_set
from pyro_vd.data.splits import DataSplits, make_splits
from pyro_vd.errors import DataError, UserError, did_you_mean

__all__ = ["DATASETS", "load"]

DATASETS = ("mnist", "fashion_mnist", "cifar10", "digits")


def load(name: str, folder: str | Path | None = None, download: bool = True) -> DataSplits:
    """Loads a dataset by name, or an image folder by path.

    Args:
        name: one of DATASETS, or the path of a folder with ``train/`` and ``test/`` in torchvision's ImageFolder
            layout.
        folder: folder of dataset files; see :func:`data_folder`.
        download: whether missing files may be downloaded. If there is no connection within 5 seconds, it gives up.

    Raises:
        UserError: for an unknown name, with the nearest valid one.
        DataError: for missing or damaged files, with their path and what to do.
    """
    if name == "digits":
        return _load_digits()
    if name in IDX_SETS:
        return load_idx_set(name, data_folder(folder), download)
    if name == "cifar10":
        return _load_cifar10(data_folder(folder), download)
    if os.path.isdir(name):  # also False for a name that no file can have
        return load_image_folder(Path(name))
    near = did_you_mean(name, DATASETS)
    raise UserError(f"unknown dataset {str(name)!r}{near} (known: {', '.join(DATASETS)}, or a folder)")


def _load_digits() -> DataSplits:
    """scikit-learn's 1,797 digits, 8x8, values 0..16 scaled to [0, 1]; every fifth one is in the test set."""
    try:
        from sklearn.datasets import load_digits  # takes a second to import, and only this dataset needs it
    except ModuleNotFoundError:
        raise DataError("digits: needs scikit-learn; pip install 'pyro-vd[digits]'") from None

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).div_(16).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    held_out = torch.arange(len(labels)) % 5 == 4
    parts = [LabeledImages(images[keep], labels[keep]) for keep in (~held_out, held_out)]
    return make_splits("digits", "digits", parts[0], parts[1], classes=10)


def _load_cifar10(root: Path, download: bool) -> DataSplits:
    """The official binary archive, or the same images as JPEG files, which are another dataset and named so."""
    path = root / cifar.ARCHIVE
    jpeg = root / cifar.JPEG_ARCHIVE
    if not os.path.lexists(path) and os.path.lexists(jpeg):
        parts, name = cifar.read_jpeg_archive(jpeg), "cifar10 (JPEG)"
    else:
        find_or_download(
            "cifar10", path, cifar.URL, cifar.SHA256, cifar.UNPACKED_LIMIT, packed=False, download=download
        )
        parts, name = cifar.read_archive(path), "cifar10"
    train, test = (LabeledImages(*part) for part in parts)
    return make_splits(name, "cifar10", train, test, classes=cifar.CLASSES)
