"""State that belongs to the process: Pyro's handlers, torch's generators, denormals, freed memory, signal handlers."""

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

import torch
from torch import Tensor

__all__ = ["PYRO_LOCK", "defer_interrupt", "flush_denormals", "fork_rng", "keep_freed_memory", "pyro_unlocked"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST_THRESHOLD = 2**31 - 1  # bytes, of a C int
# Where glibc itself ends in a process that frees large blocks (mallopt(3)). Thresholds that were set do not move.
USUAL_MMAP_THRESHOLD, USUAL_TRIM_THRESHOLD = 32 << 20, 64 << 20

PYRO_LOCK = threading.RLock()  # one thread at a time may use Pyro's handlers and torch's global generator


@contextmanager
def pyro_unlocked() -> Iterator[None]:
    """Lets other threads use Pyro inside the block. The caller must hold the lock exactly once."""
    PYRO_LOCK.release()
    try:
        yield
    finally:
        PYRO_LOCK.acquire()


def fork_rng(like: Tensor) -> AbstractContextManager[None]:
    """Restores the global random state, that of ``like``'s device included, on exit."""
    return torch.random.fork_rng(devices=[like.device] if like.is_cuda else [])


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Denormal numbers are 0 inside: pruned weights decay into them, and they slow a CPU's matrix products down."""
    before = bool((torch.full((), 1e-40) * 1.0 == 0).item())  # torch has no way to ask
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Memory that is freed inside is kept for the next allocation, and given back to the system on exit.

    Otherwise glibc maps and unmaps every tensor of more than 32 MiB, and the kernel fills its pages with zeros again at
    every step. Does nothing with another C library.
    """
    libc = _load_glibc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST_THRESHOLD)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, USUAL_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_THRESHOLD)
        libc.malloc_trim(0)


def _load_glibc() -> ctypes.CDLL | None:
    """The process's C library if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


@contextmanager
def defer_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM are noted inside the block, and do not interrupt it. A second one raises KeyboardInterrupt.

    Yields a function that says whether one was noted. Outside the main thread, which alone may handle signals, none is.
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        if noted.is_set():
            raise KeyboardInterrupt
        noted.set()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
