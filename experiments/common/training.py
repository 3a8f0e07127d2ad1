"""From names to a trained pair: what every experiment's run does first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import guides
from models import NETWORKS
from pyro_vd import Categorical, Posterior, lift
from pyro_vd.data import Split, load
from pyro_vd.errors import DataError, UserError

__all__ = ["data_for", "fresh_net", "pair_of"]


def data_for(dataset: str, network: str, folder: Path | None, say: Callable[[str], None] = print) -> Split:
    """The dataset in the network's image size; ``auto`` is MNIST where it is or can be had, else digits, loudly."""
    channels, *_, size = NETWORKS[network]().input_shape  # type: ignore[misc]

    def fitted(split: Split) -> Split:
        split = split.gray() if channels == 1 else split
        return split.resized(int(size))

    if dataset != "auto":
        return fitted(load(dataset, folder))
    try:
        split = load("mnist", folder)
        say("dataset: mnist")
        return split
    except DataError as error:
        say(f"dataset: digits, 1,797 images of 8x8, NOT MNIST: {error}")
        return fitted(load("digits"))


def fresh_net(network: str, split: Split, seed: int, device: torch.device) -> nn.Module:
    """An untrained network whose initial weights depend on the seed alone."""
    torch.manual_seed(seed)
    return NETWORKS[network](split.classes).to(device)


def pair_of(net: nn.Module, scheme: str, split: Split, **options) -> Posterior:
    """The scheme's model and guide over the network, starting from its weights.

    Raises:
        UserError: for options that the guide refuses.
    """
    chosen = guides.SCHEMES[scheme]
    model = lift(net, chosen.prior, Categorical, n=len(split.train))
    try:
        return Posterior(model, chosen.Guide(model, **options))
    except ValueError as error:
        raise UserError(f"{scheme}: {error}") from None
