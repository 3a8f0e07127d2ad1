"""From names to a trained pair: what every experiment's run does first."""

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
from pyro_vd.data.augment import Augmented
from pyro_vd.errors import DataError, UserError
from pyro_vd.experiments.common import naive
from pyro_vd.models import NETWORKS, vgg

__all__ = [
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

# A command goes on with an interrupted run on another machine too: its record says where it ended.
fit = partial(pyro_vd.fit, resume="any")
SCHEMES = {**guides.SCHEMES, "hierarchical_naive": naive}


def load_data(
    dataset: str, network: nn.Module, folder: Path | None, preferred: str = "mnist", validation: int = 0
) -> DataSplits:
    """The dataset in the network's image size and channels.

    ``auto`` is the preferred dataset where it is or can be had, else digits, loudly. With ``validation``, so many
    training images are held out and stand in the place of the test set.
    """
    channels, _, size = network.input_shape  # type: ignore[misc]

    def fitted(split: DataSplits) -> DataSplits:
        split = (split.gray() if channels == 1 else split.rgb()).resized(int(size))
        return split.with_validation(validation) if validation else split

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
    """Refuses a last batch of one example for a network with batch normalisation.

    Raises:
        UserError: naming the option.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if norms and (batch_size == 1 or len(split.train) % batch_size == 1):
        raise UserError(
            f"--batch-size {batch_size} leaves a batch of one of {len(split.train)} images, which batch normalisation "
            "cannot train on; choose another"
        )


def with_random_shift(split: DataSplits, pixels: int) -> DataSplits:
    """Training images moved at random by up to so many pixels each way, anew in every batch; 0 leaves them.

    Raises:
        UserError: for more pixels than the images have.
    """
    if not pixels:
        return split
    train = split.train
    try:
        moved = Augmented(train.images, train.labels, pad=pixels, cutout=0, mirror=False)
    except ValueError:
        side = train.images.shape[-1]
        raise UserError(f"--shift {pixels}: has to lie between 0 and {side - 1}, below the images' side") from None
    return replace(split, train=moved)


def network_factory(name: str) -> Callable[..., nn.Module]:
    """What makes the network that a record names.

    Raises:
        UserError: for a name of none.
    """
    kind, _, scale = name.partition(" x ")
    if kind == "vgg" and scale:
        return partial(vgg, scale=float(scale))
    if name not in NETWORKS:
        raise UserError(f"a record of {name!r}, which is none of {', '.join(NETWORKS)} or the VGG")
    return NETWORKS[name]


def initial_net(make: Callable[[int], nn.Module], split: DataSplits, seed: int, device: torch.device) -> nn.Module:
    """``make(classes)`` with initial weights that depend on the seed alone."""
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
    """The scheme's model and guide over the network's weights (or the selected ones), starting from them.

    The prior is the scheme's own where none is given.

    Raises:
        UserError: for a network without weights to be random, and for options that the guide refuses.
    """
    chosen = SCHEMES[scheme]
    try:
        model = lift(net, prior or chosen.prior, Categorical, num_data=len(split.train), select=select)
        return Posterior(model, chosen.Guide(model, **options))
    except ValueError as error:
        raise UserError(f"{scheme}: {error}") from None


def make_masked_pair(net: nn.Module, split: DataSplits, masks: dict[str, Tensor] | None = None) -> Posterior:
    """The network without noise, whose weights stay 0 where the masks are False; by default, they are nowhere."""
    model = lift(net, guides.none.prior, Categorical, num_data=len(split.train))
    masks = masks or {site: torch.ones_like(weight, dtype=torch.bool) for site, weight in model.initial.items()}
    return Posterior(model, guides.none.Guide(model, masks=masks))
