"""A strict reader of MNIST's IDX format: every part of a file is checked before it is used."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_vd.errors import DataError
from pyro_vd.files import read_file

__all__ = ["read_idx"]

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, sha256: str, shape: tuple[int, ...]) -> Tensor:
    """The uint8 tensor in an IDX file whose digest and shape are known.

    Raises:
        DataError: if the file is missing, truncated or too long, or has another magic number, shape or digest, saying
            which.
    """
    header = 4 + 4 * len(shape)
    content = _read(path, 2 * (header + math.prod(shape)))  # room for the message "too long"
    if content[:1] in (b"<", b"v"):
        raise DataError(f"{path}: not an IDX file but text (an error page or a Git-LFS pointer?); download it again")
    magic = bytes((0, 0, UNSIGNED_BYTE, len(shape)))
    if content[:4] != magic:
        raise DataError(f"{path}: magic number {content[:4].hex()}, expected {magic.hex()}; not the expected IDX file")
    if len(content) < header:
        raise DataError(f"{path}: truncated inside its header, {len(content)} bytes; download it again")
    found = tuple(int(size) for size in np.frombuffer(content[4:header], dtype=">u4"))
    if found != shape:
        raise DataError(f"{path}: header says shape {found}, expected {shape}")
    expected = header + math.prod(shape)
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{path}: {state}, {len(content)} bytes, expected {expected}; download it again")
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(f"{path}: SHA-256 {digest}, expected {sha256}; the file is damaged, download it again")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=header).copy()).reshape(shape)


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_file(path, limit)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
