"""The batches of a fit: the training examples in a new order every epoch, one order for every seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.inference.identity import describe
from pyro_vd.inference.loaders import LoaderBatches, as_pair, bytes_of, generator_of

__all__ = ["Batches", "Data"]

Data = LabeledImages | tuple[Tensor, Tensor] | tuple[np.ndarray, np.ndarray] | Dataset | DataLoader


class Batches:
    """Batches for every seed at once. The order is a pure function of (seed, epoch), unless a loader decides.

    Args:
        train: what to train on; a DataLoader brings its own batches and serves one seed only.
        batch_size: examples in a batch; the last one of an epoch may have fewer.
        seeds: one order of the examples for each.
        like: a weight of the network: its device is where the batches are wanted, its dtype that of NumPy's numbers.

    Raises:
        UserError: for a DataLoader with several seeds, for inputs and targets of different length, and for what is no
            training set. A Dataset of (x, y) pairs is one: its items are read one by one, in this process.
    """

    def __init__(self, train: Data, batch_size: int, seeds: Sequence[int], like: Tensor):
        self.loader = LoaderBatches(train, seeds[0]) if isinstance(train, DataLoader) else None
        if self.loader is None:
            self.data = _examples(train, like.dtype).to(like.device)
        elif len(seeds) > 1:
            raise UserError("fit_seeds: a DataLoader has one order of examples; give them as tensors or LabeledImages")
        self.batch_size = batch_size
        self.seeds = list(seeds)
        self.device = like.device

    @property
    def examples(self) -> int | None:
        """Examples in an epoch; None if only iterating the loader tells."""
        return len(self.data) if self.loader is None else self.loader.examples

    @property
    def steps(self) -> int | None:
        """Steps of an epoch; None if only iterating the loader tells."""
        return -(-len(self.data) // self.batch_size) if self.loader is None else self.loader.steps

    @property
    def full(self) -> int | None:
        """Examples in a batch that is not an epoch's smaller last; None where only the loader knows."""
        if self.loader is None:
            return min(self.batch_size, len(self.data))
        return self.loader.full

    @property
    def targets(self) -> Tensor | None:
        """Those of all examples; None if only reading them tells."""
        return self.data.labels if self.loader is None and isinstance(self.data, LabeledImages) else None

    def check(self, num_data: int) -> None:
        """Compares what an epoch yields with the number of examples that the model was lifted with.

        Raises:
            UserError: if they differ, or if there is nothing to train on.
        """
        if self.loader is not None:
            self.loader.check(num_data)
        elif len(self.data) != num_data:
            raise UserError(
                f"fit: the model was lifted with num_data={num_data}, but there are {len(self.data)} examples; lift it with their "
                "number"
            )

    def check_resumable(self) -> None:
        """Raises UserError for a loader whose order a checkpoint cannot bring back."""
        if self.loader is not None:
            self.loader.check_resumable()

    @property
    def last(self) -> int | None:
        """Examples in an epoch's last batch; None if only iterating the loader tells."""
        size = self.batch_size if self.loader is None else self.loader.full
        return None if size is None or self.examples is None else self.examples % size or size

    def epoch(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, ...]]:
        """What :meth:`take` makes the epoch's batches of, from the batch number ``skip`` on.

        Raises:
            UserError: for a loader that yields something else than pairs, or another number of examples.
        """
        if self.loader is not None:
            yield from ((x.to(self.device)[None], y.to(self.device)[None]) for x, y in self.loader.epoch(epoch, skip))
            return
        orders = torch.stack([self._order(seed, epoch) for seed in self.seeds]).to(self.device)
        for index in orders.split(self.batch_size, dim=1)[skip:]:
            yield (index.contiguous(),) if self.targets is not None else self._gathered(index)

    def take(self, *picked: Tensor) -> tuple[Tensor, Tensor]:
        """The batches (x, y), shape (seeds, examples, ...)."""
        if len(picked) == 2:
            x, y = picked
            return x, y
        return self._gathered(*picked)

    def _gathered(self, index: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.data.batch(index.flatten())
        return x.unflatten(0, index.shape), y.unflatten(0, index.shape)

    @property
    def content(self) -> str:
        """What the examples are, for a run that must go on with the same: a digest, or that they are not checked."""
        if self.loader is not None:
            return f"DataLoader of {self.examples} examples in batches of {self.full}, contents not checked"
        return self.data.content if isinstance(self.data, _Items) else _digest(self.data)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint keeps of a loader: tensors by name, and numbers. Other batches have no state."""
        return ({}, {}) if self.loader is None else self.loader.state()

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's state, see :meth:`state`."""
        if self.loader is not None:
            self.loader.restore(tensors, meta)

    def _order(self, seed: int, epoch: int) -> Tensor:
        return torch.randperm(len(self.data), generator=generator_of(seed, epoch))


class _Items:
    """The items of a map-style Dataset, gathered as those of LabeledImages. Nothing is scaled."""

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu"):
        self.dataset = cast(Sequence, dataset)
        self.device = device

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def content(self) -> str:
        return f"{type(self.dataset).__name__} of {len(self)} items, contents not checked"

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        x, y = as_pair(default_collate([self.dataset[i] for i in index.tolist()]), "an item of the Dataset")
        return x.to(self.device), y.to(self.device)

    def to(self, device: torch.device | str) -> _Items:
        return _Items(cast(Dataset, self.dataset), device)


def _examples(train: Data, dtype: torch.dtype) -> LabeledImages | _Items:
    if isinstance(train, IterableDataset):
        raise UserError("fit: an IterableDataset has no batches; give DataLoader(dataset, batch_size=...)")
    if isinstance(train, TensorDataset):
        train = cast(tuple[Tensor, Tensor], train.tensors)
    if isinstance(train, Dataset):
        return _Items(train)
    if isinstance(train, LabeledImages):
        as_pair((train.images, train.labels), "the training set")
        return train
    if not isinstance(train, tuple | list):
        raise UserError(
            f"fit: the training set is a {type(train).__name__}; give a pair (x, y) of tensors, a Dataset of such "
            "pairs, or a DataLoader"
        )
    x, y = as_pair(train, "the training set", dtype)
    if x.dtype == torch.uint8:
        raise UserError(
            "fit: the inputs x are uint8; give LabeledImages(x, y) for images, which are divided by 255, x.float() for "
            "numbers as they are, or x.long() for tokens"
        )
    return LabeledImages(x, y)


def _digest(data: LabeledImages) -> str:
    """SHA-256 of the tensors with their shapes and dtypes, and the other fields, which say how to augment."""
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    digest = hashlib.sha256()
    for name, value in values.items():
        plain = (tuple(value.shape), str(value.dtype)) if isinstance(value, Tensor) else describe(value)
        digest.update(repr((name, plain)).encode())
        if isinstance(value, Tensor):
            digest.update(bytes_of(value).data)
    return f"{type(data).__name__} of {len(data)} with SHA-256 {digest.hexdigest()}"
