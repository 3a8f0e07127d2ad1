"""Decompression in bounded memory: a small file may unpack to more than a machine holds."""

from __future__ import annotations

import errno
import lzma
import zlib

__all__ = ["XZ_MAGIC", "decompress"]

XZ_MAGIC = b"\xfd7zXZ\x00"
GZIP_WBITS = 16 + zlib.MAX_WBITS
XZ_MEMORY = 2**27  # bytes; a file names the size of its dictionary, and the densest preset of xz needs 65 MiB


def decompress(content: bytes, limit: int) -> bytes:
    """Content of a gzip or xz file of one stream.

    Raises:
        OSError: if the file is neither, is damaged or truncated, has bytes after its stream, unpacks to more than
            ``limit`` bytes (errno EFBIG), or needs more than 128 MiB to unpack; ``strerror`` says which.
    """
    is_xz = content.startswith(XZ_MAGIC)
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY) if is_xz else zlib.decompressobj(GZIP_WBITS)
    try:
        unpacked = stream.decompress(content, limit + 1)
    except (lzma.LZMAError, zlib.error) as error:
        raise OSError(errno.EINVAL, f"neither gzip nor xz, or damaged: {error}") from None
    if len(unpacked) > limit:
        raise OSError(errno.EFBIG, f"unpacks to more than {limit:,} bytes")
    if not stream.eof:
        raise OSError(errno.EINVAL, "truncated")
    if stream.unused_data:
        raise OSError(errno.EINVAL, "bytes after the end of its stream")
    return unpacked
