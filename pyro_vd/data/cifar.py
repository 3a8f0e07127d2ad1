"""Reads CIFAR-10 directly from its archives. Nothing is unpacked to disk, and nothing is unpickled."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from pyro_vd.data.archive import read_content, read_members
from pyro_vd.data.images import decode_image
from pyro_vd.errors import DataError

__all__ = ["ARCHIVE", "CLASSES", "JPEG_ARCHIVE", "SHA256", "UNPACKED_LIMIT", "URL", "read_archive", "read_jpeg_archive"]

ARCHIVE = "cifar-10-binary.tar.gz"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
JPEG_ARCHIVE = "cifar10-jpeg.tar.xz"

SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # a label and the three color planes
BATCH = 10_000
BATCHES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
CLASSES = 10
PER_CLASS = {"train": 5_000, "test": 1_000}
UNPACKED_LIMIT = 256 << 20  # bytes; the official archive unpacks to 184 MB, that of JPEG files to 93 MB
IMAGE_LIMIT = 1 << 20  # bytes of one JPEG file of 32x32 pixels

Part = tuple[Tensor, Tensor]  # images (n, 3, 32, 32) uint8, labels (n,) int64


def read_archive(path: Path) -> tuple[Part, Part]:
    """Training and test set from the official binary archive, of 50,000 and 10,000 images.

    Raises:
        DataError: if the file cannot be read or its digest differs, or if a batch is missing, has another size, or has
            a label above 9.
    """
    content = read_content(path, UNPACKED_LIMIT)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise DataError(f"{path}: SHA-256 {digest}, expected {SHA256}; the file is damaged, download it again")
    batches = {
        PurePosixPath(name).name: data for name, data in read_members(content, path, BATCH * RECORD, UNPACKED_LIMIT)
    }
    train, test = (_decode_batches(batches, names, path) for names in BATCHES.values())
    return train, test


def read_jpeg_archive(path: Path) -> tuple[Part, Part]:
    """Training and test set from a tar archive of JPEG files in ImageFolder layout: <root>/<part>/<class>/<file>.

    Raises:
        DataError: for an archive or image that cannot be read, an image that is not 32x32, and if there are not ten
            classes or not 5,000 training and 1,000 test images of each.
    """
    images: dict[str, dict[str, list[Tensor]]] = {"train": {}, "test": {}}
    for name, data in read_members(read_content(path, UNPACKED_LIMIT), path, IMAGE_LIMIT, UNPACKED_LIMIT):
        part, label = ("", "", *PurePosixPath(name).parts[:-1])[-2:]
        if part in images:
            images[part].setdefault(label, []).append(_decode_jpeg(data, f"{path}: {name}"))
    if images["train"].keys() != images["test"].keys():
        raise DataError(f"{path}: train/ and test/ have different classes")
    train, test = (_stack_classes(by_class, PER_CLASS[part], f"{path}: {part}/") for part, by_class in images.items())
    return train, test


def _decode_batches(batches: dict[str, bytes], names: list[str], path: Path) -> Part:
    for name in names:
        if len(batches.get(name, b"")) != BATCH * RECORD:
            raise DataError(f"{path}: {name} has {len(batches.get(name, b''))} bytes, expected {BATCH * RECORD}")
    records = np.frombuffer(b"".join(batches[name] for name in names), dtype=np.uint8).reshape(-1, RECORD)
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    if int(labels.max()) >= CLASSES:
        raise DataError(f"{path}: a label is {int(labels.max())}, the classes are 0 to {CLASSES - 1}")
    return torch.from_numpy(records[:, 1:].copy()).reshape(-1, *SHAPE), labels


def _decode_jpeg(data: bytes, where: str) -> Tensor:
    image = decode_image(data, where, formats=("JPEG",))
    if image.shape != SHAPE:
        raise DataError(f"{where}: {image.shape[1]}x{image.shape[2]} pixels, expected 32x32")
    return image


def _stack_classes(by_class: dict[str, list[Tensor]], expected: int, where: str) -> Part:
    if len(by_class) != CLASSES:
        raise DataError(f"{where} has {len(by_class)} classes, expected {CLASSES}")
    for label, found in by_class.items():
        if len(found) != expected:
            raise DataError(f"{where}{label}: {len(found)} images, expected {expected:,}; download the archive again")
    images = torch.stack([image for label in sorted(by_class) for image in by_class[label]])
    return images, torch.arange(CLASSES).repeat_interleave(expected)
