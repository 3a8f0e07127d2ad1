"""Decompression in bounded memory, of gzip and xz."""

import errno
import gzip
import lzma
import tracemalloc

import pytest

from pyro_vd.decompress import decompress


def test_a_bomb_is_stopped_while_it_unpacks():
    """It is not measured afterwards."""
    content = gzip.compress(bytes(50 << 20))
    tracemalloc.start()
    with pytest.raises(OSError, match="unpacks to more than 1,000 bytes"):
        decompress(content, 1000)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_what_is_within_the_limit_is_unpacked_whole(pack):
    assert decompress(pack(b"x" * 1000), 1000) == b"x" * 1000
    assert decompress(pack(b""), 0) == b""
    for content, message in (
        (pack(b"x" * 1001), "more than 1,000"),
        (pack(b"x" * 900)[:-9], "truncated"),
        (b"", "trun"),
    ):
        with pytest.raises(OSError, match=message):
            decompress(content, 1000)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_bytes_after_the_stream_are_refused(pack):
    """Another stream among them: reading would end before it."""
    for more in (b"more", pack(b"y")):
        with pytest.raises(OSError, match="bytes after the end of its stream") as refusal:
            decompress(pack(b"x") + more, 1000)
        assert refusal.value.errno == errno.EINVAL


def test_a_dictionary_larger_than_the_memory_limit_is_refused():
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
    with pytest.raises(OSError, match="Memory usage limit exceeded"):
        decompress(lzma.compress(b"x", filters=filters), 1000)
