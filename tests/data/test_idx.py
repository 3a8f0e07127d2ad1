"""read_idx: a right file is read, every wrong one is refused with its path and the reason."""

import hashlib
import os
import signal
import struct

import pytest
import torch

from pyro_vd.data.idx import read_idx
from pyro_vd.errors import DataError

SHAPE = (3, 2, 4)
PIXELS = bytes(range(200, 224))


def idx_bytes(shape=SHAPE, pixels=PIXELS, dtype=0x08):
    return bytes((0, 0, dtype, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + pixels


GOOD = idx_bytes()
DIGEST = hashlib.sha256(GOOD).hexdigest()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train-images-idx3-ubyte"


def refused(path, *reasons, sha256=DIGEST, shape=SHAPE):
    with pytest.raises(DataError) as caught:
        read_idx(path, sha256, shape)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for reason in reasons:
        assert reason in message, message
    return message


def test_a_right_file_is_read(path):
    path.write_bytes(GOOD)
    tensor = read_idx(path, DIGEST, SHAPE)
    assert tensor.dtype == torch.uint8
    assert torch.equal(tensor, torch.arange(200, 224, dtype=torch.uint8).reshape(SHAPE))


def test_the_tensor_owns_writable_memory(path):
    """A view of the file's bytes would warn, and writing to it would be undefined."""
    path.write_bytes(GOOD)
    tensor = read_idx(path, DIGEST, SHAPE)
    tensor.zero_()
    assert read_idx(path, DIGEST, SHAPE).float().mean() > 200


def test_labels_have_one_dimension(path):
    content = idx_bytes((5,), bytes((7, 0, 9, 3, 1)))
    path.write_bytes(content)
    assert read_idx(path, hashlib.sha256(content).hexdigest(), (5,)).tolist() == [7, 0, 9, 3, 1]


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_every_truncation_is_refused(path, length):
    """Kills a reader that crashes with ValueError on a header cut short, or that trusts the header's shape."""
    path.write_bytes(GOOD[:length])
    refused(path)


def test_a_file_cut_in_its_pixels_is_called_truncated(path):
    path.write_bytes(GOOD[:-1])
    refused(path, "truncated", str(len(GOOD) - 1), str(len(GOOD)), "download it again")


@pytest.mark.parametrize("extra", [b"\0", GOOD])
def test_extra_bytes_are_refused(path, extra):
    path.write_bytes(GOOD + extra)
    refused(path, "too long", str(len(GOOD + extra)))


@pytest.mark.parametrize("byte", range(len(GOOD)))
def test_one_flipped_bit_anywhere_is_refused(path, byte):
    path.write_bytes(GOOD[:byte] + bytes((GOOD[byte] ^ 1,)) + GOOD[byte + 1 :])
    refused(path)


def test_a_flipped_pixel_is_found_by_the_digest(path):
    content = GOOD[:-1] + bytes((GOOD[-1] ^ 0x10,))
    path.write_bytes(content)
    refused(path, "SHA-256", hashlib.sha256(content).hexdigest(), DIGEST, "damaged")


@pytest.mark.parametrize(
    "content", [b"\1" + GOOD[1:], b"\0\1" + GOOD[2:], GOOD[::-1], b"\x1f\x8b\x08\x00" + GOOD], ids=str
)
def test_a_wrong_magic_number_is_refused(path, content):
    path.write_bytes(content)
    refused(path, "magic number", content[:4].hex(), "00000803")


@pytest.mark.parametrize("dtype", [0x09, 0x0B, 0x0C, 0x0D, 0x0E])
def test_another_element_type_is_refused(path, dtype):
    """Even where digest and length agree: bytes read as another type are noise."""
    content = idx_bytes(dtype=dtype)
    path.write_bytes(content)
    refused(path, "magic number", f"0000{dtype:02x}03", sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 4, 2), (24, 1, 1), (3, 2, 5), (2**32 - 1,) * 3])
def test_another_shape_in_the_header_is_refused(path, shape):
    content = idx_bytes(shape)
    path.write_bytes(content)
    refused(path, f"shape {shape}", f"expected {SHAPE}", sha256=hashlib.sha256(content).hexdigest())


def test_another_number_of_dimensions_is_refused(path):
    content = idx_bytes((6, 4))
    path.write_bytes(content)
    refused(path, "magic number", sha256=hashlib.sha256(content).hexdigest())


def test_an_empty_file_is_refused(path):
    path.touch()
    refused(path)


@pytest.mark.parametrize(
    "text",
    [
        b"<!DOCTYPE html><html><title>403 Forbidden</title></html>",
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 47040016\n",
    ],
)
def test_text_is_recognised(path, text):
    path.write_bytes(text)
    refused(path, "text", "error page", "LFS")


def test_a_directory_is_refused(path):
    path.mkdir()
    refused(path, "not a regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_at_once(path):
    """Opening one that nobody writes to would wait for ever; the alarm turns that into a failure."""
    os.mkfifo(path)

    def hung(*_):
        raise AssertionError("reading a named pipe hangs")

    previous = signal.signal(signal.SIGALRM, hung)
    signal.alarm(5)
    try:
        refused(path, "not a regular file")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def test_a_missing_file_is_refused(path):
    refused(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(path):
    path.write_bytes(GOOD)
    path.chmod(0)
    refused(path, "cannot be read", "Permission denied")


def test_an_io_error_is_reported_with_its_reason(path, monkeypatch):
    path.write_bytes(GOOD)

    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pyro_vd.files.os.open", fails)
    refused(path, "cannot be read", "Input/output error")


def test_a_file_of_absurd_size_is_not_read(path):
    """A sparse file: reading it would fill the memory."""
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    refused(path, "larger than 80 bytes")
