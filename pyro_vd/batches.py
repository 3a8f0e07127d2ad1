"""The batches of a fit: the training examples in a new order every epoch, one order for every seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pyro_vd.data import Examples
from pyro_vd.errors import UserError

__all__ = ["Batches", "Data"]

Data = Examples | tuple[Tensor, Tensor] | DataLoader


class Batches:
    """Batches for every seed at once. The order is a pure function of (seed, epoch), unless a loader decides.

    Args:
        train: what to train on; a DataLoader brings its own batches and serves one seed only.
        batch_size: examples in a batch; the last one of an epoch may have fewer.
        seeds: one order of the examples for each.
        device: where the batches are wanted.

    Raises:
        UserError: for a DataLoader with several seeds.
    """

    def __init__(self, train: Data, batch_size: int, seeds: Sequence[int], device: torch.device):
        self.loader = train if isinstance(train, DataLoader) else None
        if self.loader is None:
            self.data = (train if isinstance(train, Examples) else Examples(*train)).to(device)
        elif len(seeds) > 1:
            raise UserError("fit_seeds: a DataLoader has one order of examples; give them as tensors or Examples")
        self.batch_size = batch_size
        self.seeds = list(seeds)
        self.device = device

    @property
    def examples(self) -> int:
        return len(self.data) if self.loader is None else len(self.loader.dataset)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.loader) if self.loader is not None else -(-self.examples // self.batch_size)

    @property
    def full(self) -> int | None:
        """Examples in a batch that is not an epoch's smaller last; None where only the loader knows."""
        size = self.batch_size if self.loader is None else self.loader.batch_size
        return None if size is None else min(size, self.examples)

    def epoch(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, ...]]:
        """What :meth:`take` makes the epoch's batches of, from the batch number ``skip`` on."""
        if self.loader is not None:
            yield from ((x.to(self.device)[None], y.to(self.device)[None]) for x, y in self._loaded(skip))
            return
        orders = torch.stack([self._order(seed, epoch) for seed in self.seeds]).to(self.device)
        yield from ((index.contiguous(),) for index in orders.split(self.batch_size, dim=1)[skip:])

    def take(self, *picked: Tensor) -> tuple[Tensor, Tensor]:
        """The batches (x, y), shape (seeds, examples, ...)."""
        if self.loader is not None:
            x, y = picked
            return x, y
        (index,) = picked
        x, y = self.data.batch(index.flatten())
        return x.unflatten(0, index.shape), y.unflatten(0, index.shape)

    def _order(self, seed: int, epoch: int) -> Tensor:
        # Mixed, for torch's generator looks at 32 bits of its seed only.
        mixed = np.random.SeedSequence((seed % 2**64, epoch)).generate_state(1)[0]
        return torch.randperm(self.examples, generator=torch.Generator().manual_seed(int(mixed)))

    def _loaded(self, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        # A loader draws from torch's generator when it starts. It did so before the stop: once more, and the noise
        # would shift. A loader that shuffles needs a generator of its own to come back to the same order.
        with torch.random.fork_rng(devices=[], enabled=skip > 0):
            batches = iter(self.loader)  # type: ignore[arg-type]
            for _ in range(skip):
                next(batches)
        return batches
