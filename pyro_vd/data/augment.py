"""Augmentation of whole batches on the device: random crop, flip, cutout; in tests, the average over flips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.data.labeled_images import LabeledImages
from pyro_vd.errors import UserError

__all__ = ["AugmentedImages", "average_flips", "cutout", "random_crop", "random_flip"]


@dataclass(frozen=True)
class AugmentedImages(LabeledImages):
    """Labeled images whose batches are augmented anew each time, every image by itself. For training only.

    The random numbers come from torch's global generator, so a resumed run of ``fit`` sees the same images.

    Attributes:
        pad: width in pixels of the border of reflected pixels that is added before the crop; 0 for no crop.
        cutout: side in pixels of the square that is set to 0; 0 for none.
        flip: whether each image is flipped left to right with probability 1/2. Turn it off for digits: a mirrored digit
            is not a digit.

    Raises:
        UserError: as LabeledImages, for images that are not (n, channels, height, width), and for a border or square
            that does not fit them.
    """

    pad: int = 4
    cutout: int = 8
    flip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images.ndim != 4:
            raise UserError(
                f"AugmentedImages: images {tuple(self.images.shape)}; (n, channels, height, width) are needed"
            )
        side = min(self.images.shape[-2:])
        if not 0 <= self.pad < side or not 0 <= self.cutout <= side:
            raise UserError(f"AugmentedImages(pad={self.pad}, cutout={self.cutout}): images have {side} pixels")

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented network inputs, and labels, of the examples at ``index``."""
        images, labels = super().batch(index)
        images = random_crop(images, self.pad)
        return cutout(random_flip(images) if self.flip else images, self.cutout), labels

    def to(self, device: torch.device | str) -> AugmentedImages:
        """The same images and labels on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def random_crop(images: Tensor, pad: int) -> Tensor:
    """Images (n, channels, height, width), padded by reflection and cropped to their size at a random place."""
    n, channels, height, width = images.shape
    rows = _random_starts(n, 2 * pad, images) + torch.arange(height, device=images.device)
    columns = _random_starts(n, 2 * pad, images) + torch.arange(width, device=images.device)
    padded = F.pad(images, 4 * (pad,), mode="reflect")
    pixels = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)  # indices into a flattened channel
    return padded.flatten(2).gather(2, pixels[:, None].expand(-1, channels, -1)).view_as(images)


def random_flip(images: Tensor) -> Tensor:
    """Images (n, channels, height, width), each flipped left to right with probability 1/2."""
    flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(flipped, images.flip(-1), images)


def average_flips(net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The mean of the network's outputs for the images (n, channels, height, width) and for their mirror images:
    test-time augmentation. Give it the network in eval mode.

    Example:
        >>> images = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> average_flips(lambda x: x[..., 0].flatten(1), images)  # the left column, then the right one
        tensor([[0.5000, 2.5000]])
    """
    return (net(images) + net(images.flip(-1))) / 2


def cutout(images: Tensor, side: int) -> Tensor:
    """Images (n, channels, height, width), each with a square of ``side`` pixels set to 0 at a random place inside it
    (after DeVries and Taylor 2017)."""
    n, _, height, width = images.shape
    inside = []
    for length in (height, width):
        offset = torch.arange(length, device=images.device) - _random_starts(n, length - side, images)
        inside.append((offset >= 0) & (offset < side))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(square, 0.0)


def _random_starts(n: int, highest: int, like: Tensor) -> Tensor:
    """(n, 1) integers from 0 to ``highest``, on the device of ``like``."""
    return torch.randint(highest + 1, (n, 1), device=like.device)
