"""What a user gives to train on, as examples that an index gathers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.inference.identity import describe

__all__ = ["Data", "DatasetItems", "as_pair", "bytes_of", "describe_examples", "read_examples"]

Arrays = tuple[Tensor, Tensor] | tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]
Data = LabeledImages | Arrays | Dataset[Any] | DataLoader[Any]


class DatasetItems:
    """The items of a map-style Dataset, gathered as those of LabeledImages. Nothing is scaled.

    Args:
        dataset: gives pairs (x, y); its items are read one by one, in this process.
        device: where batches are wanted.
    """

    def __init__(self, dataset: Dataset[Any], device: torch.device | str = "cpu"):
        self.dataset = cast(Sequence[Any], dataset)
        self.device = device

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The items at these indices, as (x, y) of shapes (len(index), ...)."""
        x, y = as_pair(default_collate([self.dataset[i] for i in index.tolist()]), "an item of the Dataset")
        return x.to(self.device), y.to(self.device)

    def to(self, device: torch.device | str) -> DatasetItems:
        return DatasetItems(cast("Dataset[Any]", self.dataset), device)


def read_examples(train: Data, dtype: torch.dtype, what: str = "the training set") -> LabeledImages | DatasetItems:
    """A data set as examples that an index gathers.

    Args:
        train: everything that ``fit`` takes but a DataLoader.
        dtype: that NumPy's floating-point numbers get.
        what: names the data set in an error.

    Raises:
        UserError: for anything else, inputs and targets of different length, and uint8 inputs that are not in
            LabeledImages.
    """
    if isinstance(train, IterableDataset):
        raise UserError("fit: an IterableDataset has no batches; give DataLoader(dataset, batch_size=...)")
    if isinstance(train, TensorDataset):
        train = cast("tuple[Tensor, Tensor]", train.tensors)
    if isinstance(train, Dataset):
        return DatasetItems(train)
    if isinstance(train, LabeledImages):
        as_pair((train.images, train.labels), what)
        return train
    if not isinstance(train, tuple | list):
        raise UserError(
            f"fit: {what} is a {type(train).__name__}; give a pair (x, y) of tensors, a Dataset of such "
            "pairs, or a DataLoader"
        )
    x, y = as_pair(train, what, dtype)
    if x.dtype == torch.uint8:
        raise UserError(
            "fit: the inputs x are uint8; give LabeledImages(x, y) for images, which are divided by 255, x.float() for "
            "numbers as they are, or x.long() for tokens"
        )
    return LabeledImages(x, y)


def as_pair(batch: Any, what: str, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Inputs and targets as tensors of one length.

    NumPy arrays become tensors. Those of floating-point numbers get ``dtype``, by default PyTorch's default.

    Args:
        batch: two tensors or NumPy arrays, in a tuple or a list.
        what: names it in an error.

    Raises:
        UserError: for anything else.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        count = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise UserError(f"fit: {what} is a {type(batch).__name__}{count}, but a pair (x, y) of tensors is needed")
    x, y = (_as_tensor(part, name, what, dtype) for part, name in zip(batch, "xy", strict=True))
    if len(x) != len(y):
        raise UserError(f"fit: {what} has {len(x)} inputs x but {len(y)} targets y; there must be one target for each")
    if not len(x):
        raise UserError(f"fit: {what} has no examples")
    return x, y


def describe_examples(data: LabeledImages | DatasetItems) -> str:
    """What the examples are, for a run that must go on with the same.

    Of LabeledImages, the SHA-256 of the tensors with their shapes and dtypes, and of the other fields, which say how to
    augment. The contents of a Dataset are not checked, and the description says so.
    """
    if isinstance(data, DatasetItems):
        return f"{type(data.dataset).__name__} of {len(data)} items, contents not checked"
    values = {field.name: getattr(data, field.name) for field in fields(data)}
    digest = hashlib.sha256()
    for name, value in values.items():
        plain = (tuple(value.shape), str(value.dtype)) if isinstance(value, Tensor) else describe(value)
        digest.update(repr((name, plain)).encode())
        if isinstance(value, Tensor):
            digest.update(bytes_of(value).data)
    return f"{type(data).__name__} of {len(data)} with SHA-256 {digest.hexdigest()}"


def bytes_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The bytes of the entries, in order."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _as_tensor(part: Any, name: str, what: str, dtype: torch.dtype | None) -> Tensor:
    if isinstance(part, np.ndarray):
        try:
            part = torch.tensor(part)
        except TypeError:  # of objects or strings
            raise UserError(f"fit: {name} of {what} is an array of {part.dtype}, but numbers are needed") from None
        part = part.to(dtype or torch.get_default_dtype()) if part.is_floating_point() else part
    if not isinstance(part, Tensor) or not part.ndim:
        raise UserError(
            f"fit: {name} of {what} is a {type(part).__name__}, but a tensor with one entry for each example is needed"
        )
    return part
