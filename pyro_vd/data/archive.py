"""Reads the files of an archive in bounded memory. Nothing is unpacked to disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from pyro_vd.decompress import decompress
from pyro_vd.errors import DataError
from pyro_vd.files import read_file

__all__ = ["read_content", "read_members"]


def read_content(path: Path, limit: int) -> bytes:
    """Content of a file of at most ``limit`` bytes.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return read_file(path, limit)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_members(content: bytes, path: Path, limit: int, unpacked_limit: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of every regular file of a tar archive, in its order.

    Args:
        content: of the archive, compressed by gzip or xz.
        path: of the archive, for messages.
        limit: largest number of bytes of one file.
        unpacked_limit: largest number of bytes of all.

    Raises:
        DataError: for an archive that cannot be read or is larger.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(decompress(content, unpacked_limit)), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    if member.size > limit:
                        raise DataError(f"{path}: {member.name} has {member.size} bytes, at most {limit} are expected")
                    yield member.name, file.read()
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: not a readable archive ({getattr(error, 'strerror', None) or error})") from None
