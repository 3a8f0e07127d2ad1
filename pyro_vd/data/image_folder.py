"""Datasets of the user's own: image files in torchvision's ImageFolder layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pyro_vd.data.images import read_image
from pyro_vd.data.labeled_images import LabeledImages
from pyro_vd.data.splits import DataSplits, make_splits
from pyro_vd.errors import DataError

__all__ = ["load_image_folder"]


def load_image_folder(root: Path) -> DataSplits:
    """The images in ``train/`` and ``test/``, each of which has one folder per class; all images must have one size.

    Raises:
        DataError: for missing folders, different classes, images of different sizes, and files that are not images.
    """
    from torchvision.datasets import ImageFolder  # takes seconds to import, and only folders need it

    parts, classes = [], []
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise DataError(f"{root}: an image folder needs train/ and test/, each with one folder per class")
        try:
            folder = ImageFolder(str(root / part))
        except FileNotFoundError as error:
            raise DataError(f"{root / part}: {error}") from None
        classes.append(folder.classes)
        parts.append(_read_images(folder.samples))
    if classes[0] != classes[1]:
        raise DataError(f"{root}: train/ and test/ have different classes")
    if parts[0].images.shape[1:] != parts[1].images.shape[1:]:
        raise DataError(f"{root}: images in train/ and test/ differ in size; resize them first")
    return make_splits(root.name, "folder", parts[0], parts[1], classes=len(classes[0]))


def _read_images(samples: list[tuple[str, int]]) -> LabeledImages:
    images: list[Tensor] = []
    for path, _ in samples:
        images.append(read_image(Path(path)))
        size, first = tuple(images[-1].shape[1:]), tuple(images[0].shape[1:])
        if size != first:
            raise DataError(f"{path}: size {size}, the first image has {first}; resize them first")
    return LabeledImages(torch.stack(images), torch.tensor([label for _, label in samples]))
