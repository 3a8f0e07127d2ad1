"""Augmentation of whole batches on the device: random crop, mirror image, cutout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.data import LabeledImages

__all__ = ["Augmented", "cutout", "mirrored", "random_crop"]


@dataclass(frozen=True)
class Augmented(LabeledImages):
    """LabeledImages whose batches are augmented anew each time, every image by itself. For training alone.

    Random numbers are torch's, so a resumed run of ``fit`` goes on with the same images.

    Attributes:
        pad: pixels of reflected border before the crop; 0 for none.
        cutout: side of the square that is set to 0, in pixels; 0 for none.
        mirror: whether half of the images are turned left to right; not for digits, whose mirror images are none.

    Raises:
        UserError: as of LabeledImages.
        ValueError: for images of other axes, and for a border or square that does not fit them.
    """

    pad: int = 4
    cutout: int = 8
    mirror: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images.ndim != 4:
            raise ValueError(f"Augmented: images {tuple(self.images.shape)}; (n, channels, height, width) are needed")
        side = min(self.images.shape[-2:])
        if not 0 <= self.pad < side or not 0 <= self.cutout <= side:
            raise ValueError(f"Augmented(pad={self.pad}, cutout={self.cutout}): images have {side} pixels")

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented network inputs, and labels, of the examples at ``index``."""
        images, labels = super().batch(index)
        images = random_crop(images, self.pad)
        return cutout(mirrored(images) if self.mirror else images, self.cutout), labels

    def to(self, device: torch.device | str) -> Augmented:
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def random_crop(images: Tensor, pad: int) -> Tensor:
    """A window of the images' own size, at random in images padded by reflection; (n, channels, height, width)."""
    n, channels, height, width = images.shape
    rows = _starts(n, 2 * pad, images) + torch.arange(height, device=images.device)
    columns = _starts(n, 2 * pad, images) + torch.arange(width, device=images.device)
    padded = F.pad(images, 4 * (pad,), mode="reflect")
    pixels = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)  # of a padded channel, laid flat
    return padded.flatten(2).gather(2, pixels[:, None].expand(-1, channels, -1)).view_as(images)


def mirrored(images: Tensor) -> Tensor:
    """Every image turned left to right with probability one half."""
    turned = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(turned, images.flip(-1), images)


def cutout(images: Tensor, side: int) -> Tensor:
    """A square of ``side`` pixels set to 0, at a random place inside every image (after DeVries and Taylor 2017)."""
    n, _, height, width = images.shape
    inside = []
    for length in (height, width):
        place = torch.arange(length, device=images.device) - _starts(n, length - side, images)
        inside.append((place >= 0) & (place < side))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(square, 0.0)


def _starts(n: int, highest: int, like: Tensor) -> Tensor:
    """(n, 1) whole numbers from 0 to ``highest``."""
    return torch.randint(highest + 1, (n, 1), device=like.device)
