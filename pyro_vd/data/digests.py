"""Digests of examples, by which two data sets are compared without keeping either."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from pyro_vd.data.labeled_images import to_float
from pyro_vd.pytree import Tree, leaves, split

__all__ = ["digest_inputs"]

ROWS = 4096  # that are converted at once
BYTES = 8


def digest_inputs(x: Tree) -> Tensor:
    """A number for the input of each example, (n,), int64, on the CPU. Equal inputs have equal numbers.

    It is the first 64 bits of SHA-256 of the values in float32, so that copies on another device, of another floating
    point type or with the axes of images flattened have the same. Pixels of uint8 have that of the network inputs that
    they become. Two different inputs among k have the same number with probability of about k^2 / 2^65.

    Args:
        x: inputs, (n, ...) each.

    Example:
        >>> pixels = torch.tensor([[[0, 51]], [[102, 255]]], dtype=torch.uint8)
        >>> bool((digest_inputs(pixels) == digest_inputs(torch.tensor([[0.0, 0.2], [0.4, 1.0]]).double())).all())
        True
    """
    given = [leaf for leaf in leaves(x) if leaf is not None]
    numbers = [number for part in split(given, ROWS) for number in _digest_rows(part)]
    return torch.tensor(numbers, dtype=torch.int64)


def _digest_rows(x: list[Tensor]) -> Iterator[int]:
    parts = [_canonical(leaf).reshape(len(leaf), -1).view(torch.uint8).numpy() for leaf in x]
    for number in range(len(x[0])):
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part[number].data)
        yield int.from_bytes(digest.digest()[:BYTES], "big", signed=True)


def _canonical(leaf: Tensor) -> Tensor:
    """Float32 or int64, contiguous, on the CPU."""
    value: Tensor = to_float(leaf.detach())
    value = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    kind = torch.float32 if value.is_floating_point() else torch.int64
    return value.to("cpu", kind).contiguous() + 0  # -0.0 becomes 0.0
