"""Labeled images on one device, in batches of network inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["LabeledImages", "to_float"]

IMAGE_TYPES = (torch.uint8, torch.float32, torch.float64)


@dataclass(frozen=True)
class LabeledImages:
    """Images and labels on one device.

    Attributes:
        images: (n, channels, height, width), uint8 (0..255), float32 or float64.
        labels: (n,), int64.

    Raises:
        UserError: if the numbers of images and labels differ, and for images of another type.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        counts = [len(part) if part.ndim else 0 for part in (self.images, self.labels)]
        if counts[0] != counts[1]:
            raise UserError(f"{counts[0]} images and {counts[1]} labels; each image needs one label")
        if self.images.ndim == 4 and self.images.dtype not in IMAGE_TYPES:
            name = str(self.images.dtype).removeprefix("torch.")
            raise UserError(f"images of {name}: give uint8 (0..255), which is scaled to [0, 1], or convert by .float()")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Network inputs and labels of the examples at ``index``; uint8 images become float32 in [0, 1]."""
        return to_float(self.images[index]), self.labels[index]

    def to(self, device: torch.device | str) -> LabeledImages:
        """The same images and labels on another device."""
        return LabeledImages(self.images.to(device), self.labels.to(device))


def to_float(images: Any) -> Any:
    """Network inputs: uint8 values are taken for pixels and become float32 in [0, 1]; anything else is unchanged.

    A network that scales pixels itself needs them as floating point numbers (``images.float()``), and token ids must be
    int64.
    """
    return images.float().div_(255) if isinstance(images, Tensor) and images.dtype == torch.uint8 else images
