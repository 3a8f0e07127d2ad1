"""Generators of random numbers that depend on (seed, epoch) alone."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["make_generator"]


def make_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator on the CPU whose state depends on (seed, epoch) alone."""
    # Mixed, because torch's generator reads only 32 bits of its seed.
    mixed = np.random.SeedSequence((seed % 2**64, epoch)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))
