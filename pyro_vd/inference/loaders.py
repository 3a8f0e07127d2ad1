"""DataLoaders in training: how many examples they yield, an order that a stopped run comes back to, and its state."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from pyro_vd.errors import CheckpointError, UserError

__all__ = ["LoaderBatches", "as_pair", "bytes_of", "generator_of"]


class LoaderBatches:
    """The batches of a DataLoader, counted.

    What the loader draws from PyTorch's global generator, for the order of a shuffle or for an augmentation in this
    process, comes from a generator of (seed, epoch) instead. The generators that the loader and its samplers have of
    their own go on from epoch to epoch, and their states at an epoch's begin are part of the checkpoint. A resumed
    epoch yields the same batches again and drops those that were trained on. A loader with ``state_dict`` and
    ``load_state_dict``, torchdata's StatefulDataLoader for one, goes on by itself.

    Args:
        loader: yields pairs (x, y).
        seed: of what the loader draws from the global generator.
    """

    def __init__(self, loader: DataLoader, seed: int):
        self.loader = loader
        self.seed = seed
        self._expected: int | None = None
        self._begin: list[Tensor] | None = None  # states of the generators when the present epoch began
        self._seen = self._checksum = 0  # of the present epoch's batches so far
        self._resumed: tuple[int, int] | None = None
        self._is_kept = False  # in a checkpoint, which the checksum of an epoch's batches is for
        self._stateful = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        self._stream = generator_of(seed, 0).get_state()  # of the global generator's stand-in

    @property
    def examples(self) -> int | None:
        """Examples that an epoch yields; None if only iterating tells."""
        drawn, size = self._drawn, self._size
        if drawn is None or size is None:
            return None
        return drawn - drawn % size if self._drops_last else drawn

    @property
    def steps(self) -> int | None:
        """Batches of an epoch; None if only iterating tells."""
        if isinstance(self.loader.dataset, IterableDataset):  # whose length worker processes may change
            return None
        try:
            return len(self.loader)
        except TypeError:  # a sampler without a length
            return None

    @property
    def full(self) -> int | None:
        """Examples in a batch that is not an epoch's last; None if only iterating tells."""
        return self._size if self._size is None or self._drawn is None else min(self._size, self._drawn)

    @property
    def _size(self) -> int | None:
        return self.loader.batch_size or (self._batches.batch_size if self._batches else None)

    @property
    def _batches(self) -> BatchSampler | None:
        """PyTorch's own batch sampler; None for another, of which nothing is known."""
        sampler = self.loader.batch_sampler
        own = self.loader.batch_size is not None or type(sampler) is BatchSampler
        return sampler if own and isinstance(sampler, BatchSampler) else None

    @property
    def _drops_last(self) -> bool:
        return self._batches.drop_last if self._batches else self.loader.drop_last

    @property
    def _drawn(self) -> int | None:
        """Examples that an epoch's batches are made of, before drop_last."""
        if isinstance(self.loader.dataset, IterableDataset) or self._batches is None:
            return None
        try:
            return len(self._batches.sampler)  # type: ignore[arg-type]
        except TypeError:
            return None

    def check(self, num_data: int) -> None:
        """Compares what an epoch yields, as far as it is known, with ``num_data``. The rest is counted in every epoch.

        With drop_last, a shuffled epoch leaves out other examples each time: there ``num_data`` may count them too.

        Raises:
            UserError: if they differ, or if the loader is empty.
        """
        if self.examples == 0 or self.steps == 0:
            raise UserError("fit: the DataLoader is empty; look at its dataset, sampler, batch_size and drop_last")
        shuffled = self._batches is not None and not isinstance(self._batches.sampler, SequentialSampler)
        if self.examples not in (None, num_data) and not (self._drops_last and shuffled and self._drawn == num_data):
            raise UserError(
                f"fit: the model was lifted with num_data={num_data}, but an epoch of the DataLoader yields {self.examples} "
                f"examples; lift it with num_data={self.examples}, or change the sampler"
            )
        self._expected = num_data if self.examples is None else self.examples

    def check_resumable(self) -> None:
        """Refuses a loader whose later epochs a checkpoint cannot bring back.

        Raises:
            UserError: for one with a state of its own and a generator but without workers: torchdata draws a seed for
                the workers from it whenever the loader starts, a resumed one once more.
        """
        self._is_kept = True
        if self._stateful and self.loader.generator is not None and not self.loader.num_workers:
            raise UserError(
                f"fit: checkpoint= cannot bring back the order of a {type(self.loader).__name__} with a generator; leave out "
                "generator=, instead of which the seed of fit decides, or checkpoint="
            )

    def epoch(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's pairs (x, y) from the batch number ``skip`` on.

        Raises:
            UserError: for batches that are no pairs, and at the end for another number of examples than expected.
            CheckpointError: if the batches up to ``skip`` are not those that the checkpoint's run was trained on.
        """
        self._begin = [generator.get_state() for generator in self._generators()]
        number = self._seen = self._checksum = 0
        if self._stateful and self._resumed and skip:
            number = skip
            self._seen, self._checksum = self._resumed
        else:
            self._stream = generator_of(self.seed, epoch).get_state()
        for part in (self.loader.sampler, self.loader.batch_sampler, self.loader.dataset):
            getattr(part, "set_epoch", lambda _: None)(epoch)
        for batch in self._drawn_batches():
            number += 1
            x, y = as_pair(batch, "a batch of the DataLoader")
            self._seen += len(x)
            if self._is_kept:
                self._checksum = zlib.crc32(bytes_of(y).data, zlib.crc32(bytes_of(x).data, self._checksum))
            if number == skip:
                self._check_resumed()
            if number > skip:
                yield x, y
        if number < skip:
            self._check_resumed()
        if self._seen != self._expected:
            raise UserError(
                f"fit: the DataLoader yielded {self._seen} examples in epoch {epoch}, but {self._expected} were "
                "expected; num_data and every epoch must have the same number"
            )
        self._begin = None

    def _drawn_batches(self) -> Iterator[Any]:
        iterator = None
        while True:
            others = torch.get_rng_state()
            torch.set_rng_state(self._stream)
            try:
                iterator = iter(self.loader) if iterator is None else iterator
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self._stream = torch.get_rng_state()
                torch.set_rng_state(others)
            yield batch

    def _generators(self) -> list[torch.Generator]:
        """Of the loader and of its parts, each once; none if the loader's state has them."""
        if self._stateful:
            return []
        loader = self.loader
        parts = (loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
        found = [getattr(part, "generator", None) for part in parts]
        return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint keeps: tensors by name, and numbers."""
        states = self._begin or [generator.get_state() for generator in self._generators()]
        seen = (0, 0) if self._begin is None else (self._seen, self._checksum)
        tensors = {f"loader.generator{number}": state for number, state in enumerate(states)}
        numbers: dict[str, Any] = {"seen": seen[0], "checksum": seen[1]}
        if self._stateful:
            tensors["loader.stream"] = self._stream
            numbers["state"] = _encode(self.loader.state_dict())  # type: ignore[attr-defined]
        return tensors, numbers

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's state, whose tensors have the names and shapes of :meth:`state`'s."""
        for number, generator in enumerate(self._generators()):
            generator.set_state(tensors[f"loader.generator{number}"])
        if self._stateful:
            self.loader.load_state_dict(_decode(meta["state"]))  # type: ignore[attr-defined]
            self._stream = tensors["loader.stream"]
        self._resumed = (meta["seen"], meta["checksum"])

    def _check_resumed(self) -> None:
        if self._resumed not in (None, (self._seen, self._checksum)):
            raise CheckpointError(
                "fit: the DataLoader does not come back to the batches that checkpoint= was trained on; its data changed, or "
                "its order is not drawn from PyTorch's generators; choose another checkpoint"
            )


def as_pair(batch: Any, what: str, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Inputs and targets as tensors of one length.

    NumPy arrays become tensors, those of floating-point numbers of ``dtype``, by default PyTorch's default.

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


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """A generator that depends on (seed, epoch) alone."""
    # Mixed, for torch's generator looks at 32 bits of its seed only.
    mixed = np.random.SeedSequence((seed % 2**64, epoch)).generate_state(1)[0]
    return torch.Generator().manual_seed(int(mixed))


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


def _encode(state: Any) -> Any:
    """The state as JSON values."""
    if isinstance(state, Mapping):
        return {key: _encode(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_encode(value) for value in state]
    if isinstance(state, Tensor):
        return {"tensor": state.tolist(), "dtype": str(state.dtype).removeprefix("torch.")}
    return state


def _decode(state: Any) -> Any:
    if isinstance(state, dict) and state.keys() == {"tensor", "dtype"}:
        return torch.tensor(state["tensor"], dtype=getattr(torch, state["dtype"]))
    if isinstance(state, dict):
        return {key: _decode(value) for key, value in state.items()}
    return [_decode(value) for value in state] if isinstance(state, list) else state


def bytes_of(tensor: Tensor) -> np.ndarray:
    """The bytes of the entries, in order."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
