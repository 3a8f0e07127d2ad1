"""The images of a spec: loaded, converted to the network's input shape, and changed as the spec says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pyro_vd.data import DATASETS, DataSplits, LabeledImages, load
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments.common.spec import Data

__all__ = ["adapt", "check_last_batch", "choose_dataset", "load_images"]


def choose_dataset(name: str, folder: Path | None, preferred: str = "mnist") -> str:
    """The name itself, or the absolute path of a folder. For ``auto``, the preferred dataset if it can be loaded, else
    digits, with a line that says so.

    Args:
        folder: of the datasets; None for the default.
    """
    if name != "auto":
        return str(Path(name).resolve()) if Path(name).is_dir() and name not in DATASETS else name
    try:
        print(f"dataset: {load(preferred, folder).name}")
        return preferred
    except DataError as error:
        print(f"dataset: digits, 1,797 images of 8x8, NOT {preferred}: {error}")
        return "digits"


def load_images(data: Data, net: nn.Module, folder: Path | None, seed: int = 0) -> DataSplits:
    """Loads the images on the host.

    Args:
        net: decides the channels, and without ``data.size`` the size, of the images, see ``adapt``.
        folder: of the datasets; None for the default.
        seed: of the shuffled labels.

    Raises:
        DataError: if the dataset is not there.
        UserError: for a shift beyond the side of the images.
    """
    split = adapt(load(data.name, folder), net, data.size)
    if data.validation:
        split = split.hold_out(data.validation)
    if data.num_train or data.num_test:
        split = split.subset(data.num_train or len(split.train), data.num_test or len(split.test))
    if data.shuffled:
        split = _shuffle_labels(split, data.shuffled, seed)
    return _augment(split, data)


def adapt(split: DataSplits, net: nn.Module, size: int | None = None) -> DataSplits:
    """Converts the images to the channels of the network and to ``size``.

    Args:
        net: with ``input_shape``, (channels, height, width), or with a convolution, whose channels the images get.
        size: pixels per side; by default that of ``input_shape``; without one, images keep their size.
    """
    shape = getattr(net, "input_shape", None)
    convolution = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    channels = shape[0] if shape else convolution.in_channels if convolution else None
    if channels:
        split = split.to_gray() if channels == 1 else split.to_rgb()
    size = size or (shape[-1] if shape else None)
    return split.resize(int(size)) if size else split


def _augment(split: DataSplits, data: Data) -> DataSplits:
    images, labels = split.train.images, split.train.labels
    if data.augment:
        return replace(split, train=AugmentedImages(images, labels, cutout=data.cutout))
    side = images.shape[-1]
    if not data.shift:
        return split
    if not 0 < data.shift < side:
        raise UserError(f"--shift {data.shift}: must lie between 0 and {side - 1}, below the images' side")
    return replace(split, train=AugmentedImages(images, labels, pad=data.shift, cutout=0, flip=False))


def _shuffle_labels(split: DataSplits, share: float, seed: int) -> DataSplits:
    """Permutes this share of the training labels; the frequency of each label is unchanged."""
    labels = split.train.labels.clone()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))].to(labels.device)
    dealt = chosen[torch.randperm(len(chosen), generator=generator).to(labels.device)]
    labels[chosen] = split.train.labels[dealt]
    name = f"{split.name} ({100 * share:g} % shuffled)"
    return replace(split, train=LabeledImages(split.train.images, labels), name=name)


def check_last_batch(net: nn.Module, split: DataSplits, batch_size: int) -> None:
    """Refuses a last batch of one example if the network has batch normalization.

    Raises:
        UserError: naming the option.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms and (batch_size == 1 or len(split.train) % batch_size == 1):
        raise UserError(
            f"--batch-size {batch_size} leaves a batch of one of {len(split.train)} images, which batch normalization "
            "cannot train on; choose another"
        )
