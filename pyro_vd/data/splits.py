"""The training and test set of a dataset, and changes to both of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.data.labeled_images import LabeledImages
from pyro_vd.errors import UserError

__all__ = ["DataSplits", "make_splits"]


@dataclass(frozen=True)
class DataSplits:
    """A dataset: its training set, its test set, and where they come from.

    Attributes:
        name: the name that records show. Each method that changes the images adds to it.
        origin: the dataset it was made from: one of DATASETS, or "folder".
        train: the training set.
        test: the test set.
        classes: number of classes.
        sha256: one digest of every byte of images and labels, training set first.

    Raises:
        UserError: for images or labels of other axes than :class:`LabeledImages` has, or labels that are not int64.
    """

    name: str
    origin: str
    train: LabeledImages
    test: LabeledImages
    classes: int
    sha256: str

    def __post_init__(self) -> None:
        for part in (self.train, self.test):
            if part.images.ndim != 4 or part.labels.ndim != 1 or part.labels.dtype != torch.int64:
                raise UserError(
                    f"{self.name}: images {tuple(part.images.shape)}, labels {tuple(part.labels.shape)} of "
                    f"{part.labels.dtype}; images (n, channels, height, width) and int64 labels (n,) are needed"
                )

    def to(self, device: torch.device | str) -> DataSplits:
        """The same dataset on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def resize(self, size: int) -> DataSplits:
        """Images of ``size`` x ``size``, resized bilinearly; the dataset itself if it has that size."""
        if self.train.images.shape[-1] == self.train.images.shape[-2] == size:
            return self
        train, test = (replace(part, images=_resize(part.images, size)) for part in (self.train, self.test))
        return replace(self, train=train, test=test, name=f"{self.name} ({size}x{size})")

    def to_gray(self) -> DataSplits:
        """Images of one channel: the luminance (ITU-R 601) of color images; the dataset itself if it is gray."""
        if self.train.images.shape[1] == 1:
            return self
        train, test = (replace(part, images=_luminance(part.images)) for part in (self.train, self.test))
        return replace(self, train=train, test=test, name=f"{self.name} (gray)")

    def to_rgb(self) -> DataSplits:
        """Images of three channels, equal ones for gray images; the dataset itself if it has three channels."""
        if self.train.images.shape[1] == 3:
            return self
        train, test = (replace(part, images=part.images.repeat(1, 3, 1, 1)) for part in (self.train, self.test))
        return replace(self, train=train, test=test, name=f"{self.name} (3 channels)")

    def subset(self, train: int, test: int, seed: int = 0) -> DataSplits:
        """The first ``train`` and ``test`` examples of a shuffle by the seed, or all of them if there are fewer."""
        parts = []
        for part, count in ((self.train, train), (self.test, test)):
            order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:count]
            parts.append(replace(part, images=part.images[order], labels=part.labels[order]))
        kept = f"{len(parts[0]):,} and {len(parts[1]):,} images"
        return replace(self, train=parts[0], test=parts[1], name=f"{self.name} ({kept})")

    def hold_out(self, count: int, seed: int = 0) -> DataSplits:
        """The training set only, with ``count`` validation examples as the test set, for tuning.

        These are the last ones of a shuffle by the seed. The test set is left out.

        Raises:
            UserError: unless ``count`` is above 0 and below the number of training examples.
        """
        if not 0 < count < len(self.train):
            raise UserError(f"a validation set of {count} does not fit {len(self.train)} training examples")
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        parts = [LabeledImages(self.train.images[i], self.train.labels[i]) for i in (order[:-count], order[-count:])]
        return replace(self, train=parts[0], test=parts[1], name=f"{self.name} (validation {count})")


def make_splits(name: str, origin: str, train: LabeledImages, test: LabeledImages, classes: int) -> DataSplits:
    """A dataset with the digest of its images and labels, which must be on the CPU."""
    digest = hashlib.sha256()
    for part in (train, test):
        digest.update(part.images.numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
    return DataSplits(name, origin, train, test, classes, digest.hexdigest())


def _luminance(images: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).reshape(3, 1, 1)
    gray = (images.float() * weights).sum(1, keepdim=True)
    return gray.round().to(torch.uint8) if images.dtype == torch.uint8 else gray


def _resize(images: Tensor, size: int) -> Tensor:
    """Resizes bilinearly; uint8 stays uint8."""
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else resized
