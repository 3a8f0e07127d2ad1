"""Subsets of the training set, one for every seed: the training folds of a cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_vd.errors import UserError

__all__ = ["describe_subsets", "read_subsets"]


def read_subsets(subsets: Sequence[Tensor], seeds: Sequence[int], num_examples: int) -> list[Tensor]:
    """The indices of every seed's examples, (m,) each, on the CPU.

    Args:
        subsets: indices, as tensors, NumPy arrays or lists of whole numbers.
        seeds: one for each subset.
        num_examples: of the training set.

    Raises:
        UserError: if there is not one subset for each seed, if they have not the same length, which is at least 1, or
            for one that is not of different whole numbers from 0 to ``num_examples - 1``.
    """
    if len(subsets) != len(seeds):
        raise UserError(f"fit_seeds: there are {len(subsets)} subsets for {len(seeds)} seeds; give one for each")
    found = [_read_subset(subset, number, num_examples) for number, subset in enumerate(subsets)]
    lengths = sorted({len(subset) for subset in found})
    if len(lengths) > 1:
        raise UserError(
            f"fit_seeds: the subsets have {lengths[0]} to {lengths[-1]} examples, but seeds that step together need "
            "equally many; leave some out, or call fit for each"
        )
    return found


def describe_subsets(subsets: Sequence[Tensor]) -> str:
    """What the subsets are, for a run that must go on with the same."""
    digest = hashlib.sha256(torch.stack(list(subsets)).numpy().tobytes()).hexdigest()
    return f"{len(subsets)} subsets of {len(subsets[0])} with SHA-256 {digest}"


def _read_subset(subset: Tensor, number: int, num_examples: int) -> Tensor:
    try:
        index = torch.as_tensor(subset).cpu()
    except (TypeError, ValueError, RuntimeError):
        index = torch.empty(0)
    integers = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
    if index.ndim != 1 or not len(index) or not integers:
        raise UserError(f"fit_seeds: subset {number} is not a list of indices of examples")
    if index.min() < 0 or index.max() >= num_examples:
        raise UserError(
            f"fit_seeds: subset {number} has indices from {int(index.min())} to {int(index.max())}, but the training "
            f"set has the examples 0 to {num_examples - 1}"
        )
    if len(index.unique()) < len(index):
        raise UserError(f"fit_seeds: subset {number} has an example twice")
    return index.long()
