"""The batches of a fit: the training examples in a new order every epoch, one order for every seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.inference.epoch_generator import make_generator
from pyro_vd.inference.examples import Data, DatasetItems, Examples, ReadBatch, describe_examples, read_examples
from pyro_vd.inference.loaders import LoaderBatches
from pyro_vd.inference.subsets import describe_subsets, read_subsets
from pyro_vd.pytree import Tree, map_leaves

__all__ = ["Batches", "ExampleBatches", "make_batches"]


class Batches(Protocol):
    """What :func:`make_batches` gives: batches as indices, and what gathers them.

    Attributes:
        device: where batches are.
        num_examples: in an epoch; None if only iterating a loader tells.
        steps: of an epoch; None if only iterating a loader tells.
        batch_size: examples in a batch that is not the smaller last one of an epoch; None if only a loader knows.
        last_size: examples in an epoch's last batch; None if only iterating a loader tells.
        targets: those of all examples; None if only reading them tells.
        content: what the examples are, for a run that must go on with the same: a digest, or that they are not checked.
    """

    device: torch.device

    @property
    def num_examples(self) -> int | None: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def last_size(self) -> int | None: ...
    @property
    def targets(self) -> Tree | None: ...
    @property
    def content(self) -> str: ...

    def check(self, num_data: int) -> None:
        """Compares what an epoch yields with the number of examples that the model was lifted with.

        Raises:
            UserError: if they differ, or if there is nothing to train on.
        """

    def check_resumable(self) -> None:
        """Raises UserError for a loader whose order a checkpoint cannot bring back."""

    def epoch(self, epoch: int, skip: int) -> Iterator[tuple[Tree, ...]]:
        """The arguments of :meth:`gather` for every batch of the epoch, from the batch number ``skip`` on.

        Raises:
            UserError: for a loader that yields something else than pairs, or another number of examples.
        """

    def gather(self, *index: Tree) -> tuple[Tree, Tree]:
        """The batch (x, y), shapes (examples, ...); with several seeds, (seeds, examples, ...)."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint keeps of a loader: tensors by name, and numbers. Other batches have no state."""

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's state, see :meth:`state`."""


class ExampleBatches:
    """Batches of examples that an index gathers. The order is a pure function of (seed, epoch).

    Args:
        data: the examples, on the device where batches are wanted.
        batch_size: examples in a batch; the last one of an epoch may have fewer.
        seeds: one order of the examples for each. If there are several, batches have an axis of them before the one of
            examples.
        device: of the batches.
        subsets: for each seed the indices of its examples, all of one length; None for all examples.
    """

    def __init__(
        self,
        data: Examples,
        batch_size: int,
        seeds: Sequence[int],
        device: torch.device,
        subsets: Sequence[Tensor] | None = None,
    ):
        self.data = data
        self.num_examples = len(data) if subsets is None else len(subsets[0])
        self.batch_size = min(batch_size, self.num_examples)
        self.seeds = list(seeds)
        self.device = device
        self.subsets = subsets

    @property
    def steps(self) -> int:
        return -(-self.num_examples // self.batch_size)

    @property
    def last_size(self) -> int:
        return self.num_examples % self.batch_size or self.batch_size

    @property
    def targets(self) -> Tree | None:
        if isinstance(self.data, DatasetItems):
            return None
        return self.data.labels if isinstance(self.data, LabeledImages) else self.data.y

    @property
    def content(self) -> str:
        chosen = "" if self.subsets is None else f", of which {describe_subsets(self.subsets)}"
        return describe_examples(self.data) + chosen

    def check(self, num_data: int) -> None:
        if self.num_examples != num_data:
            raise UserError(
                f"fit: the model was lifted with num_data={num_data}, but there are {self.num_examples} examples; lift "
                "it with their number"
            )

    def check_resumable(self) -> None:
        pass

    def epoch(self, epoch: int, skip: int) -> Iterator[tuple[Tree, ...]]:
        orders = [self.order(number, epoch).to(self.device) for number in range(len(self.seeds))]
        order = orders[0] if len(orders) == 1 else torch.stack(orders)
        for index in torch.split(order, self.batch_size, dim=-1)[skip:]:
            # A Dataset's items are read here, in Python: a captured step could not.
            yield self.gather(index) if isinstance(self.data, DatasetItems) else (index.contiguous(),)

    def order(self, number: int, epoch: int) -> Tensor:
        """The indices of the examples of seed ``number`` in the order of this epoch, on the CPU."""
        order = torch.randperm(self.num_examples, generator=make_generator(self.seeds[number], epoch))
        return order if self.subsets is None else self.subsets[number][order]

    def gather(self, *index: Tree) -> tuple[Tree, Tree]:
        if len(index) == 2:  # read already
            return index
        (examples,) = index
        if examples.ndim == 1:
            return self.data.batch(examples)
        batch: tuple[Tree, Tree] = self.data.batch(examples.flatten())
        x, y = map_leaves(lambda leaf: leaf.reshape(*examples.shape, *leaf.shape[1:]), batch)
        return x, y

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        pass


def make_batches(
    train: Data,
    batch_size: int,
    seeds: Sequence[int],
    like: Tensor,
    read: ReadBatch | None = None,
    subsets: Sequence[Tensor] | None = None,
) -> Batches:
    """Batches of the training set.

    Args:
        train: what to train on; a DataLoader brings its own batches and serves one seed only.
        batch_size, seeds, subsets: see :class:`ExampleBatches`.
        like: a weight of the network: its device is where batches are wanted, its dtype that of NumPy's numbers.
        read: of what a DataLoader or a Dataset yields, see :func:`pyro_vd.fit`.

    Raises:
        UserError: for a DataLoader with several seeds or subsets, for subsets that are not as described, and for data
            of another type, see :func:`~pyro_vd.inference.examples.read_examples`.
    """
    if not isinstance(train, DataLoader):
        examples = read_examples(train, like.dtype, read=read).to(like.device)
        chosen = None if subsets is None else read_subsets(subsets, seeds, len(examples))
        return ExampleBatches(examples, batch_size, seeds, like.device, chosen)
    if len(seeds) > 1 or subsets is not None:
        raise UserError("fit_seeds: a DataLoader has one order of examples; give them as tensors or LabeledImages")
    return LoaderBatches(train, seeds[0], like.device, read)
