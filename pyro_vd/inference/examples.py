"""What a user gives to train on, as examples that an index gathers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.inference.identity import describe
from pyro_vd.pytree import (
    Tree,
    as_tree,
    check_inputs,
    check_no_bytes,
    check_tensors,
    count,
    is_single,
    move,
    named_leaves,
    rebuild,
    take,
)

__all__ = [
    "Data", "DatasetItems", "Examples", "ReadBatch", "TensorExamples", "as_pair", "bytes_of", "check_read",
    "describe_examples", "read_batch", "read_examples",
]  # fmt: skip

Data = LabeledImages | tuple[Any, Any] | Dataset[Any] | DataLoader[Any]
ReadBatch = Callable[[Any], tuple[Any, Any]]  # what a loader yields -> (x, y)


@dataclass(frozen=True)
class TensorExamples:
    """Inputs and targets of which at least one is in a tuple, list or dict. Nothing is scaled.

    Attributes:
        x: inputs, (n, ...) each.
        y: targets, (n, ...) each.
    """

    x: Tree
    y: Tree

    def __len__(self) -> int:
        return count(self.y, "y")

    def batch(self, index: Tensor) -> tuple[Tree, Tree]:
        """Inputs and targets of the examples at ``index``."""
        return take(self.x, index), take(self.y, index)

    def to(self, device: torch.device | str) -> TensorExamples:
        return TensorExamples(move(self.x, device), move(self.y, device))


class DatasetItems:
    """The items of a map-style Dataset, gathered as those of LabeledImages. Nothing is scaled.

    Args:
        dataset: gives pairs (x, y), or what ``read`` takes; its items are read one by one, in this process.
        device: where batches are wanted.
        read: of a batch of items, see :func:`pyro_vd.fit`; None for pairs.
    """

    def __init__(self, dataset: Dataset[Any], device: torch.device | str = "cpu", read: ReadBatch | None = None):
        self.dataset = cast(Sequence[Any], dataset)
        self.device = device
        self.read = read

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, index: Tensor) -> tuple[Tree, Tree]:
        """The items at these indices, as (x, y) of shapes (len(index), ...)."""
        items = default_collate([self.dataset[i] for i in index.tolist()])
        x, y = read_batch(items, "an item of the Dataset", self.read)
        if count(y, "y") != len(index):
            raise UserError(f"fit: batch= gives {count(y, 'y')} targets y for {len(index)} items of the Dataset")
        return move(x, self.device), move(y, self.device)

    def to(self, device: torch.device | str) -> DatasetItems:
        return DatasetItems(cast("Dataset[Any]", self.dataset), device, self.read)


Examples = LabeledImages | TensorExamples | DatasetItems


def read_examples(
    train: Data, dtype: torch.dtype, what: str = "the training set", read: ReadBatch | None = None
) -> Examples:
    """A data set as examples that an index gathers.

    Args:
        train: everything that ``fit`` takes but a DataLoader.
        dtype: that NumPy's floating-point numbers get.
        what: names the data set in an error.
        read: of what a Dataset yields, see :func:`pyro_vd.fit`.

    Raises:
        UserError: for anything else, inputs and targets of different length, and uint8 inputs that are not in
            LabeledImages.
    """
    if isinstance(train, IterableDataset):
        raise UserError("fit: an IterableDataset has no batches; give DataLoader(dataset, batch_size=...)")
    if isinstance(train, TensorDataset) and read is None and len(train.tensors) == 2:
        train = cast("tuple[Any, Any]", train.tensors)
    if isinstance(train, Dataset):
        return DatasetItems(train, read=read)
    if isinstance(train, LabeledImages | TensorExamples):
        as_pair(tuple(getattr(train, field.name) for field in fields(train)[:2]), what)
        return train
    if not isinstance(train, tuple | list):
        raise UserError(
            f"fit: {what} is a {type(train).__name__}; give a pair (x, y) of tensors, a Dataset of such "
            "pairs, or a DataLoader"
        )
    x, y = as_pair(train, what, dtype)
    if not (is_single(x) and is_single(y)):
        _refuse_sparse({"x": x, "y": y}, what)
        return TensorExamples(x, y)
    if x.dtype == torch.uint8:
        raise UserError(
            "fit: the inputs x are uint8; give LabeledImages(x, y) for images, which are divided by 255, x.float() for "
            "numbers as they are, or x.long() for tokens"
        )
    return LabeledImages(x, y)


def check_read(read: ReadBatch | None, *data: object) -> None:
    """Raises UserError for a ``batch=`` that is not a function, or that none of the data sets needs."""
    if read is None:
        return
    if not callable(read):
        raise UserError(f"fit: batch={read!r} must be a function of what a DataLoader yields, to a pair (x, y)")
    if not any(isinstance(part, Dataset | DataLoader) for part in data):
        raise UserError("fit: batch= reads what a DataLoader or a Dataset yields, and these are tensors; give (x, y)")


def as_pair(
    batch: Any, what: str, dtype: torch.dtype | None = None, read: ReadBatch | None = None
) -> tuple[Tree, Tree]:
    """Inputs and targets as trees of tensors, of one length unless ``read`` made them.

    NumPy arrays become tensors. Those of floating-point numbers get ``dtype``, by default PyTorch's default.

    Args:
        batch: inputs and targets in a tuple or a list: tensors or NumPy arrays, or tuples, lists or dicts of them.
        what: names it in an error.
        read: gives the pair of the batch. The first axis of its targets counts examples, that of its inputs need not.

    Raises:
        UserError: for anything else.
    """
    pair = batch if read is None else read(batch)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(_explain_pair(pair, what, read))
    x, y = (_as_tensors(as_tree(part), name, what, dtype) for part, name in zip(pair, "xy", strict=True))
    check_inputs(x, what)
    check_tensors(y, "y", what)
    number = _count(y, "y", what)
    if read is not None:
        return x, y
    sizes = _count(x, "x", what), number
    if sizes[0] != sizes[1]:
        raise UserError(
            f"fit: {what} has {sizes[0]} inputs x but {sizes[1]} targets y; there must be one target for each"
        )
    if not sizes[0]:
        raise UserError(f"fit: {what} has no examples")
    return x, y


def read_batch(batch: Any, what: str, read: ReadBatch | None) -> tuple[Tree, Tree]:
    """The pair of a batch that a Dataset or a loader yields, see :func:`as_pair`.

    Raises:
        UserError: also for inputs of uint8: nothing says whether they are pixels, which predictions divide by 255.
    """
    x, y = as_pair(batch, what, read=read)
    check_no_bytes(x, what)
    return x, y


def _explain_pair(pair: Any, what: str, read: ReadBatch | None) -> str:
    holds = f"a {type(pair).__name__}"
    if isinstance(pair, Mapping):
        holds += f" with the keys {', '.join(map(str, pair))}"
    elif isinstance(pair, tuple | list):
        holds += f" of {len(pair)}"
    if read is not None:
        return f"fit: batch= returned {holds}; it must return a pair (x, y) of inputs and targets"
    asked = f"fit: {what} is {holds}, but a pair (x, y) of tensors is needed"
    if not what.startswith("a"):  # the whole set, as tensors
        return asked
    return f"{asked}; say which are inputs and targets by fit(..., batch=function), where function(batch) is (x, y)"


def describe_examples(data: Examples) -> str:
    """What the examples are, for a run that must go on with the same.

    Of tensors, the SHA-256 of their bytes, shapes and dtypes, and of the other fields, which say how to augment. The
    contents of a Dataset are not checked, and the description says so.
    """
    if isinstance(data, DatasetItems):
        return f"{type(data.dataset).__name__} of {len(data)} items{describe_read(data.read)}, contents not checked"
    digest = hashlib.sha256()
    for field in fields(data):
        for name, value in named_leaves(field.name, getattr(data, field.name)):
            plain = (tuple(value.shape), str(value.dtype)) if isinstance(value, Tensor) else describe(value)
            digest.update(repr((name, plain)).encode())
            if isinstance(value, Tensor):
                digest.update(bytes_of(value).data)
    return f"{type(data).__name__} of {len(data)} with SHA-256 {digest.hexdigest()}"


def describe_read(read: ReadBatch | None) -> str:
    """What reads the batches, for a description of the data; empty if nothing does."""
    return "" if read is None else f" read by {describe(read)}"


def bytes_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The bytes of the entries, in order."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _as_tensors(tree: Tree, name: str, what: str, dtype: torch.dtype | None) -> Tree:
    found = [_as_tensor(part, leaf, what, dtype) for leaf, part in named_leaves(name, tree)]
    return rebuild(tree, found)


def _as_tensor(part: Any, name: str, what: str, dtype: torch.dtype | None) -> Any:
    if isinstance(part, np.ndarray):
        try:
            part = torch.tensor(part)
        except TypeError:  # of objects or strings
            raise UserError(f"fit: {name} of {what} is an array of {part.dtype}, but numbers are needed") from None
        part = part.to(dtype or torch.get_default_dtype()) if part.is_floating_point() else part
    if not isinstance(part, Tensor):
        raise UserError(
            f"fit: {name} of {what} is a {type(part).__name__}, but a tensor with one entry for each example is needed"
        )
    return part


def _refuse_sparse(pair: dict[str, Tree], what: str) -> None:
    for name, tree in pair.items():
        for leaf, value in named_leaves(name, tree):
            if value.layout != torch.strided:
                raise UserError(
                    f"fit: {leaf} of {what} is sparse and cannot be divided into batches; give a DataLoader of batches"
                )


def _count(tree: Tree, name: str, what: str) -> int:
    if is_single(tree) and not tree.ndim:
        raise UserError(
            f"fit: {name} of {what} is a Tensor of one number, but one with an entry for each example is needed"
        )
    try:
        return count(tree, name)
    except UserError as error:
        raise UserError(f"fit: {what}: {error}") from None
