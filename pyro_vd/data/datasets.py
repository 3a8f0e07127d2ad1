"""Datasets as tensors on the device: found, verified, or downloaded; digits needs none of that."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.data import cifar
from pyro_vd.data.decompress import decompress
from pyro_vd.data.download import download as fetch
from pyro_vd.data.idx import read_idx
from pyro_vd.data.images import read_image
from pyro_vd.errors import DataError, UserError, did_you_mean
from pyro_vd.files import write_atomically

__all__ = ["DATASETS", "DataSplits", "LabeledImages", "data_folder", "load"]

DATASETS = ("mnist", "fashion_mnist", "cifar10", "digits")
IMAGE_TYPES = (torch.uint8, torch.float32, torch.float64)


@dataclass(frozen=True)
class LabeledImages:
    """Images and labels on one device.

    Attributes:
        images: (n, channels, height, width), uint8 (0..255), float32 or float64.
        labels: (n,), int64.

    Raises:
        UserError: for another number of labels than of images, and for images of another type.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        counts = [len(part) if part.ndim else 0 for part in (self.images, self.labels)]
        if counts[0] != counts[1]:
            raise UserError(f"{counts[0]} images and {counts[1]} labels; one label for each image is needed")
        if self.images.ndim == 4 and self.images.dtype not in IMAGE_TYPES:
            name = str(self.images.dtype).removeprefix("torch.")
            raise UserError(f"images of {name}: give uint8 (0..255), which is scaled to [0, 1], or convert by .float()")

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The examples at ``index`` as network inputs: uint8 images become float32 in [0, 1]."""
        return to_float(self.images[index]), self.labels[index]

    def to(self, device: torch.device | str) -> LabeledImages:
        return LabeledImages(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class DataSplits:
    """A dataset: what to train on, what to test on, and what it is.

    Attributes:
        name: the name that records show; resizing, graying, limiting and holding out add to it.
        origin: what it was made from: one of DATASETS, or "folder".
        sha256: one digest over every byte of images and labels, train then test.
        classes: number of classes.

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
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def resized(self, size: int) -> DataSplits:
        """Images resized bilinearly to ``size`` x ``size`` where they are not already; the name says so."""
        if self.train.images.shape[-1] == self.train.images.shape[-2] == size:
            return self
        train, test = (replace(part, images=_resize(part.images, size)) for part in (self.train, self.test))
        return replace(self, train=train, test=test, name=f"{self.name} ({size}x{size})")

    def gray(self) -> DataSplits:
        """Colour images as luminance (ITU-R 601), one channel; one-channel images stay."""
        if self.train.images.shape[1] == 1:
            return self
        train, test = (replace(part, images=_luminance(part.images)) for part in (self.train, self.test))
        return replace(self, train=train, test=test, name=f"{self.name} (gray)")

    def rgb(self) -> DataSplits:
        """Gray images with their one channel three times; colour images stay."""
        if self.train.images.shape[1] == 3:
            return self
        train, test = (replace(part, images=part.images.repeat(1, 3, 1, 1)) for part in (self.train, self.test))
        return replace(self, train=train, test=test, name=f"{self.name} (3 channels)")

    def limited(self, train: int, test: int, seed: int = 0) -> DataSplits:
        """The first ``train`` and ``test`` examples of a fixed shuffle; where there are no more, all of them."""
        parts = []
        for part, count in ((self.train, train), (self.test, test)):
            order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))[:count]
            parts.append(replace(part, images=part.images[order], labels=part.labels[order]))
        kept = f"{len(parts[0]):,} and {len(parts[1]):,} images"
        return replace(self, train=parts[0], test=parts[1], name=f"{self.name} ({kept})")

    def with_validation(self, count: int, seed: int = 0) -> DataSplits:
        """The training set alone, its last ``count`` of a fixed shuffle as the test set: for every tuned choice."""
        if not 0 < count < len(self.train):
            raise UserError(f"a validation set of {count} does not fit {len(self.train)} training examples")
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        parts = [LabeledImages(self.train.images[i], self.train.labels[i]) for i in (order[:-count], order[-count:])]
        return replace(self, train=parts[0], test=parts[1], name=f"{self.name} (validation {count})")


def to_float(images: Tensor) -> Tensor:
    """Network inputs: uint8 is taken for pixels and becomes float32 in [0, 1], anything else stays.

    A network that scales pixels itself needs them as floating point numbers (``images.float()``), and token ids must be
    int64.
    """
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def load(name: str, folder: str | Path | None = None, download: bool = True) -> DataSplits:
    """Loads a dataset by name, or an image folder by path.

    Args:
        name: one of DATASETS, or the path of a folder with ``train/`` and ``test/`` in torchvision's ImageFolder
            layout.
        folder: where to look for (and put) files; see :func:`data_folder`.
        download: whether files that are not there may be fetched (5 seconds to connect, then it gives up).

    Raises:
        UserError: for an unknown name, with the nearest valid one.
        DataError: for missing or damaged files, with the path looked in and what to do.
    """
    if name == "digits":
        return _digits()
    if name in IDX_SETS:
        return _idx_set(name, data_folder(folder), download)
    if name == "cifar10":
        return _cifar10(data_folder(folder), download)
    if os.path.isdir(name):  # False for a name that no file can have, too
        return _image_folder(Path(name))
    near = did_you_mean(name, DATASETS)
    raise UserError(f"unknown dataset {str(name)!r}{near} (known: {', '.join(DATASETS)}, or a folder)")


def data_folder(folder: str | Path | None = None) -> Path:
    """``folder``, else $PYRO_VD_DATA, else pyro_vd under the user's cache folder.

    Raises:
        DataError: where none is given and the user has no home folder, as in some containers.
    """
    chosen = folder or os.environ.get("PYRO_VD_DATA")
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return (Path(cache) if cache else Path.home() / ".cache") / "pyro_vd"
    except RuntimeError:  # pathlib's
        raise DataError(
            "there is no home folder to look for datasets in; set PYRO_VD_DATA to their folder, or choose "
            "--dataset digits"
        ) from None


def _digits() -> DataSplits:
    """scikit-learn's 1,797 digits, 8x8, values 0..16 scaled to [0, 1]; every fifth one is for testing."""
    try:
        from sklearn.datasets import load_digits  # a second to import, and only this dataset needs it
    except ModuleNotFoundError:
        raise DataError("digits: needs scikit-learn; pip install 'pyro-vd[digits]'") from None

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32).div_(16).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    held_out = torch.arange(len(labels)) % 5 == 4
    parts = [LabeledImages(images[keep], labels[keep]) for keep in (~held_out, held_out)]
    return _split("digits", "digits", parts[0], parts[1], classes=10)


# SHA-256 of the raw IDX files: train images, train labels, test images, test labels.
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


def _idx_set(name: str, root: Path, download: bool) -> DataSplits:
    folder, source, digests = IDX_SETS[name]
    tensors = []
    for (file, shape), sha256 in zip(IDX_FILES, digests, strict=True):
        path = root / folder / file
        if not os.path.lexists(path):
            if not download:
                raise _missing(name, path, sha256, "downloading is off")
            size = 4 + 4 * len(shape) + math.prod(shape)
            _download(name, source + file + ".gz", path, sha256, size)
        tensors.append(read_idx(path, sha256, shape))
    images, labels, test_images, test_labels = tensors
    train = LabeledImages(images.unsqueeze(1), labels.long())
    return _split(name, name, train, LabeledImages(test_images.unsqueeze(1), test_labels.long()), classes=10)


def _cifar10(root: Path, download: bool) -> DataSplits:
    """The official binary archive; else the same images as JPEG files, which is another dataset and named so."""
    path = root / cifar.ARCHIVE
    jpeg = root / cifar.JPEG_ARCHIVE
    if not os.path.lexists(path) and os.path.lexists(jpeg):
        parts, name = cifar.read_jpeg_archive(jpeg), "cifar10 (JPEG)"
    else:
        if not os.path.lexists(path):
            if not download:
                raise _missing("cifar10", path, cifar.SHA256, "downloading is off")
            _download("cifar10", cifar.URL, path, cifar.SHA256, cifar.UNPACKED_LIMIT, packed=False)
        parts, name = cifar.read_archive(path), "cifar10"
    train, test = (LabeledImages(*part) for part in parts)
    return _split(name, "cifar10", train, test, classes=cifar.CLASSES)


def _download(name: str, url: str, path: Path, sha256: str, size: int, packed: bool = True) -> None:
    """Writes what is at ``url``, which has at most ``size`` bytes when it is unpacked."""
    try:
        content = fetch(url, size + size // 1000 + 100)  # packing can add a little to what cannot be packed
        content = decompress(content, size) if packed else content
    except OSError as error:
        raise _missing(name, path, sha256, f"download failed: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _missing(name, path, sha256, f"{url} now holds something else")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise _missing(name, path, sha256, f"the download cannot be written: {error.strerror or error}") from None


def _missing(name: str, path: Path, sha256: str, why: str) -> DataError:
    return DataError(
        f"{name}: no {path} ({why}); put the file with SHA-256 {sha256} there (IDX files uncompressed), set "
        "PYRO_VD_DATA to its data folder, or choose --dataset digits"
    )


def _image_folder(root: Path) -> DataSplits:
    """An ImageFolder with train/ and test/; every image must have the first one's size."""
    from torchvision.datasets import ImageFolder  # seconds to import, and only folders need it

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
    return _split(root.name, "folder", parts[0], parts[1], classes=len(classes[0]))


def _read_images(samples: list[tuple[str, int]]) -> LabeledImages:
    images: list[Tensor] = []
    for path, _ in samples:
        images.append(read_image(Path(path)))
        size, first = tuple(images[-1].shape[1:]), tuple(images[0].shape[1:])
        if size != first:
            raise DataError(f"{path}: size {size}, the first image has {first}; resize them first")
    return LabeledImages(torch.stack(images), torch.tensor([label for _, label in samples]))


def _split(name: str, origin: str, train: LabeledImages, test: LabeledImages, classes: int) -> DataSplits:
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
    """Bilinear; uint8 stays uint8."""
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else resized
