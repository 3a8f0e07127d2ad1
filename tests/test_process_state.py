"""The state of the process: what a block changes is as before, or as glibc has it, afterwards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from pyro_vd import process_state
from pyro_vd.process_state import flush_denormals, keep_freed_memory

LARGE = 64 << 20  # bytes: above the largest threshold that glibc chooses by itself
LARGER = 16 * LARGE  # above every hole that the heap can have: glibc fills a hole before it maps

MEASURE = f"""
import ctypes, json, os
from pathlib import Path
import torch
from pyro_vd.process_state import keep_freed_memory

class MemoryNumbers(ctypes.Structure):  # glibc's mallinfo2
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = MemoryNumbers

def measure():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {{"mapped": libc.mallinfo2().hblks, "resident": pages * os.sysconf("SC_PAGE_SIZE")}}

found = {{}}
with keep_freed_memory():
    found["before"] = measure()
    tensor = torch.ones({LARGE}, dtype=torch.uint8)
    found["held"] = measure()
    del tensor
    found["freed"] = measure()
found["left"] = measure()
tensor = torch.empty({LARGER}, dtype=torch.uint8)
found["held outside"] = measure()
print(json.dumps(found))
"""
"""Prints blocks that malloc has mapped for themselves, and resident bytes, around a large tensor."""


@pytest.fixture(scope="module")
def memory():
    """The numbers of a new process: what another test has freed would serve the next tensor."""
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc only")
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_large_tensor_is_mapped_only_outside_the_block(memory):
    assert memory["held"]["mapped"] == memory["before"]["mapped"]
    assert memory["held outside"]["mapped"] == memory["left"]["mapped"] + 1


def test_freed_memory_is_kept_in_the_block_and_goes_back_after_it(memory):
    assert memory["held"]["resident"] >= memory["before"]["resident"] + LARGE // 2
    assert memory["freed"]["resident"] >= memory["held"]["resident"] - LARGE // 2
    assert memory["left"]["resident"] <= memory["freed"]["resident"] - LARGE // 2


def test_without_glibc_the_block_runs_all_the_same(monkeypatch):
    monkeypatch.setattr(process_state, "_load_glibc", lambda: None)
    with keep_freed_memory():
        assert torch.ones(3).sum() == 3


def test_an_error_leaves_the_block():
    with pytest.raises(ZeroDivisionError), keep_freed_memory(), flush_denormals():
        _ = 1 / 0
