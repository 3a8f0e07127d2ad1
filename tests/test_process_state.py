"""The state of the process: what a block changes is as before, or as glibc has it, afterwards."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest
import torch

from pyro_vd import process_state
from pyro_vd.process_state import flush_denormals, keep_freed_memory

LARGE = 64 << 20  # bytes: above the largest threshold that glibc chooses by itself


class MemoryNumbers(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def count_mapped_blocks() -> int:
    """Blocks that malloc has mapped for themselves."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = MemoryNumbers
    return int(libc.mallinfo2().hblks)


def count_resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_large_tensor_is_mapped_only_outside_the_block():
    with keep_freed_memory():
        before = count_mapped_blocks()
        inside = torch.empty(LARGE, dtype=torch.uint8)
        assert count_mapped_blocks() == before
    before = count_mapped_blocks()
    outside = torch.empty(LARGE, dtype=torch.uint8)
    assert count_mapped_blocks() == before + 1
    del inside, outside


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_goes_back_to_the_system_after_the_block():
    with keep_freed_memory():
        before = count_resident_bytes()
        tensor = torch.ones(LARGE, dtype=torch.uint8)
        del tensor
        assert count_resident_bytes() >= before + LARGE // 2
        kept = count_resident_bytes()
    assert count_resident_bytes() <= kept - LARGE // 2


def test_without_glibc_the_block_runs_all_the_same(monkeypatch):
    monkeypatch.setattr(process_state, "_load_glibc", lambda: None)
    with keep_freed_memory():
        assert torch.ones(3).sum() == 3


def test_an_error_leaves_the_block():
    with pytest.raises(ZeroDivisionError), keep_freed_memory(), flush_denormals():
        _ = 1 / 0
