"""The first steps of every run: load the data, build the network, make the model/guide pair, fit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

import pyro_vd
from pyro_vd import Categorical, Posterior, guides, lift
from pyro_vd.data import DataSplits, load
from pyro_vd.data.augment import AugmentedImages
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments.common import naive
from pyro_vd.models import NETWORKS

__all__ = [
    "MNIST_NETWORKS",
    "SCHEMES",
    "check_last_batch",
    "fit",
    "initial_net",
    "load_data",
    "make_masked_pair",
    "make_pair",
    "network_factory",
    "with_random_shift",
]  # fmt: skip

# A run may resume on another machine; its record names the one on which it ended.
fit = partial(pyro_vd.fit, resume="any")
MNIST_NETWORKS = ("lenet300", "lenet5")  # names that commands on MNIST take
SCHEMES = {**guides.SCHEMES, "hierarchical_naive": naive}


def load_data(
    dataset: str, network: nn.Module, folder: Path | None, preferred: str = "mnist", validation: int = 0
) -> DataSplits:
    """Loads a dataset in the image size and channels of the network.

    Args:
        dataset: a name, a folder of images, or ``auto``: the preferred dataset if it can be loaded, else digits, with a
            line that says so.
        network: with ``input_shape``, (channels, height, width).
        folder: of the datasets; None for the default.
        preferred: what ``auto`` tries first.
        validation: number of training images that are held out and replace the test set.
    """
    channels, _, size = network.input_shape  # type: ignore[misc]

    def fitted(split: DataSplits) -> DataSplits:
        split = (split.to_gray() if channels == 1 else split.to_rgb()).resize(int(size))
        return split.hold_out(validation) if validation else split

    if dataset != "auto":
        return fitted(load(dataset, folder))
    try:
        split = load(preferred, folder)
        print(f"dataset: {split.name}")
    except DataError as error:
        split = load("digits")
        print(f"dataset: digits, 1,797 images of 8x8, NOT {preferred}: {error}")
    return fitted(split)


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


def with_random_shift(split: DataSplits, pixels: int) -> DataSplits:
    """Shifts every training image at random by up to ``pixels`` in each direction, anew in every batch.

    Raises:
        UserError: for a shift beyond the side of the images.
    """
    if not pixels:
        return split
    images, labels = split.train.images, split.train.labels
    side = images.shape[-1]
    if not 0 < pixels < side:
        raise UserError(f"--shift {pixels}: must lie between 0 and {side - 1}, below the images' side")
    return replace(split, train=AugmentedImages(images, labels, pad=pixels, cutout=0, flip=False))


def network_factory(name: str) -> Callable[..., nn.Module]:
    """The constructor of the network that a record names.

    Raises:
        UserError: for an unknown name.
    """
    kind, _, scale = name.partition(" x ")
    if kind == "vgg" and scale:
        return partial(NETWORKS[kind], scale=float(scale))
    if name not in NETWORKS:
        raise UserError(f"a record of {name!r}, which is not one of {', '.join(NETWORKS)} or the VGG")
    return NETWORKS[name]


def initial_net(make: Callable[[int], nn.Module], split: DataSplits, seed: int, device: torch.device) -> nn.Module:
    """``make(classes)`` on the device, with initial weights that depend on the seed only."""
    torch.manual_seed(seed)
    return make(split.classes).to(device)


def make_pair(
    net: nn.Module,
    scheme: str,
    split: DataSplits,
    select: tuple[str, ...] | None = None,
    prior: Distribution | None = None,
    **options,
) -> Posterior:
    """Makes the scheme's model/guide pair over the network's weights, untrained.

    Args:
        net: its weights are the initial means.
        scheme: a key of ``SCHEMES``.
        split: ``num_data`` is the size of its training set.
        select: sites that become random; by default the weights of linear and convolution layers.
        prior: by default the scheme's own.
        options: of the guide.

    Raises:
        UserError: if the network has no such weights, or if the guide refuses the options.
    """
    chosen = SCHEMES[scheme]
    try:
        model = lift(net, prior or chosen.prior, Categorical, num_data=len(split.train), select=select)
        return Posterior(model, chosen.Guide(model, **options))
    except ValueError as error:
        raise UserError(f"{scheme}: {error}") from None


def make_masked_pair(net: nn.Module, split: DataSplits, masks: dict[str, Tensor] | None = None) -> Posterior:
    """A pair without noise, whose weights stay 0 where the masks are False; by default all masks are True."""
    model = lift(net, guides.none.prior, Categorical, num_data=len(split.train))
    masks = masks or {site: torch.ones_like(weight, dtype=torch.bool) for site, weight in model.initial.items()}
    return Posterior(model, guides.none.Guide(model, masks=masks))
