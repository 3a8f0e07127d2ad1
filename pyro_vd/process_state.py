"""State that belongs to the process: Pyro's handler stack and torch's random generators."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

__all__ = ["PYRO_LOCK", "fork_rng", "pyro_unlocked"]

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
