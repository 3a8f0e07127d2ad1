"""Decompression into a bounded number of bytes: a small file may unpack to more than a machine holds."""

from __future__ import annotations

import errno
import lzma
import zlib

__all__ = ["decompress"]

XZ_MAGIC = b"\xfd7zXZ\x00"
GZIP_WBITS = 16 + zlib.MAX_WBITS


def decompress(content: bytes, limit: int) -> bytes:
    """Content of a gzip or xz file of one stream.

    Raises:
        OSError: if it is neither, is damaged or truncated, or unpacks to more than ``limit`` bytes; ``strerror`` says
            which.
    """
    stream = lzma.LZMADecompressor() if content.startswith(XZ_MAGIC) else zlib.decompressobj(GZIP_WBITS)
    try:
        unpacked = stream.decompress(content, limit + 1)
    except (lzma.LZMAError, zlib.error) as error:
        raise OSError(errno.EINVAL, f"neither gzip nor xz, or damaged: {error}") from None
    if len(unpacked) > limit:
        raise OSError(errno.EFBIG, f"unpacks to more than {limit:,} bytes")
    if not stream.eof:
        raise OSError(errno.EINVAL, "truncated")
    return unpacked
