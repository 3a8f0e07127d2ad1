"""check_masks: whether pruning masks are those of these weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["check_masks"]


def check_masks(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor], caller: str, partial: bool = False) -> None:
    """Refuses masks that do not fit the weights they are for.

    Args:
        masks: name -> bools of the weight's shape.
        weights: name -> weight.
        caller: what the message begins with.
        partial: whether weights may be without a mask.

    Raises:
        UserError: for a mask of no weight, a weight without a mask (unless ``partial``), another shape or another
            dtype than bool, naming all of them.
    """
    wrong = [f"no weight {name!r}" for name in masks.keys() - weights.keys()]
    if not partial:
        wrong += [f"no mask for {name!r}" for name in weights.keys() - masks.keys()]
    for name in masks.keys() & weights.keys():
        mask, shape = masks[name], tuple(weights[name].shape)
        if (tuple(mask.shape), mask.dtype) != (shape, torch.bool):
            wrong.append(f"the mask of {name!r} is {tuple(mask.shape)} {mask.dtype}, expected {shape} torch.bool")
    if wrong:
        raise UserError(f"{caller}: masks of another network: {'; '.join(sorted(wrong))}")
