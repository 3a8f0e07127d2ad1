"""MNIST and FashionMNIST from their raw IDX files."""

from __future__ import annotations

import math
from pathlib import Path

from pyro_vd.data.cache import find_or_download
from pyro_vd.data.idx import read_idx
from pyro_vd.data.labeled_images import LabeledImages
from pyro_vd.data.splits import DataSplits, make_splits

__all__ = ["IDX_SETS", "load_idx_set"]

# Name -> folder, address, and SHA-256 of the raw files: train images, train labels, test images, test labels.
IDX_SETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "mnist": (
        "MNIST/raw",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion_mnist": (
        "FashionMNIST/raw",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}
IDX_FILES = (
    ("train-images-idx3-ubyte", (60_000, 28, 28)),
    ("train-labels-idx1-ubyte", (60_000,)),
    ("t10k-images-idx3-ubyte", (10_000, 28, 28)),
    ("t10k-labels-idx1-ubyte", (10_000,)),
)


def load_idx_set(name: str, root: Path, download: bool) -> DataSplits:
    """One of IDX_SETS, from its four files below ``root``.

    Raises:
        DataError: for missing or damaged files.
    """
    folder, url, digests = IDX_SETS[name]
    tensors = []
    for (file, shape), sha256 in zip(IDX_FILES, digests, strict=True):
        path = root / folder / file
        size = 4 + 4 * len(shape) + math.prod(shape)
        find_or_download(name, path, f"{url}{file}.gz", sha256, size, download=download)
        tensors.append(read_idx(path, sha256, shape))
    images, labels, test_images, test_labels = tensors
    train = LabeledImages(images.unsqueeze(1), labels.long())
    return make_splits(name, name, train, LabeledImages(test_images.unsqueeze(1), test_labels.long()), classes=10)
