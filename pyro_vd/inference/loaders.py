"""DataLoaders in training: how many examples they yield, an order that a resumed run gets again, and its state."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.inference.epoch_generator import make_generator
from pyro_vd.inference.examples import ReadBatch, bytes_of, describe_read, read_batch
from pyro_vd.pytree import Tree, count, leaves, move

__all__ = ["LoaderBatches"]


class LoaderBatches:
    """The batches of a DataLoader, counted, with the interface of :class:`~pyro_vd.inference.batches.Batches`.

    What the loader draws from PyTorch's global generator, for the order of a shuffle or for an augmentation in this
    process, comes from a generator of (seed, epoch) instead. The loader's and its samplers' own generators go on from
    epoch to epoch, and their states at the beginning of an epoch are part of the checkpoint. A resumed epoch yields the
    same batches again and drops those that were trained on. A loader with ``state_dict`` and ``load_state_dict``, for
    example torchdata's StatefulDataLoader, goes on by itself.

    Args:
        loader: yields pairs (x, y), or what ``read`` takes.
        seed: of what the loader draws from the global generator.
        device: where the batches are wanted.
        read: of what the loader yields, see :func:`pyro_vd.fit`; None for pairs.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, device: torch.device, read: ReadBatch | None = None):
        self.loader = loader
        self.seed = seed
        self.device = device
        self.read = read
        self._expected: int | None = None
        self._begin: list[Tensor] | None = None  # states of the generators when the current epoch began
        self._seen = self._checksum = 0  # of the current epoch's batches so far
        self._resumed: tuple[int, int] | None = None
        self._is_kept = False  # whether a checkpoint needs the checksum of an epoch's batches
        self._stateful = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        self._stream = make_generator(seed, 0).get_state()  # of the global generator's stand-in

    @property
    def num_examples(self) -> int | None:
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
    def batch_size(self) -> int | None:
        """Examples in a batch that is not an epoch's last; None if only iterating tells."""
        return self._size if self._size is None or self._drawn is None else min(self._size, self._drawn)

    @property
    def last_size(self) -> int | None:
        """Examples in an epoch's last batch; None if only iterating tells."""
        size, examples = self.batch_size, self.num_examples
        return None if size is None or examples is None else examples % size or size

    @property
    def targets(self) -> None:
        """Only reading the batches tells."""
        return

    @property
    def content(self) -> str:
        """What a checkpoint compares; it says that the contents are not checked."""
        read = describe_read(self.read)
        return f"DataLoader of {self.num_examples} examples in batches of {self.batch_size}{read}, contents not checked"

    @property
    def _size(self) -> int | None:
        return self.loader.batch_size or (self._batches.batch_size if self._batches else None)

    @property
    def _batches(self) -> BatchSampler | None:
        """PyTorch's own batch sampler; None for another class, of which nothing is known."""
        sampler = self.loader.batch_sampler
        own = self.loader.batch_size is not None or type(sampler) is BatchSampler
        return sampler if own and isinstance(sampler, BatchSampler) else None

    @property
    def _drops_last(self) -> bool:
        return self._batches.drop_last if self._batches else self.loader.drop_last

    @property
    def _drawn(self) -> int | None:
        """Examples that the sampler of an epoch draws, before drop_last; None if only iterating tells."""
        if isinstance(self.loader.dataset, IterableDataset) or self._batches is None:
            return None
        try:
            return len(cast(Sized, self._batches.sampler))
        except TypeError:
            return None

    def check(self, num_data: int) -> None:
        """Compares what an epoch yields, as far as it is known, with ``num_data``. The rest is counted in every epoch.

        With drop_last, a shuffled epoch leaves out other examples each time: there ``num_data`` may count them too.

        Raises:
            UserError: if they differ, or if the loader is empty.
        """
        if self.num_examples == 0 or self.steps == 0:
            raise UserError("fit: the DataLoader is empty; look at its dataset, sampler, batch_size and drop_last")
        shuffled = self._batches is not None and not isinstance(self._batches.sampler, SequentialSampler)
        if self.num_examples not in (None, num_data) and not (
            self._drops_last and shuffled and self._drawn == num_data
        ):
            raise UserError(
                f"fit: the model was lifted with num_data={num_data}, but an epoch of the DataLoader yields "
                f"{self.num_examples} examples; lift it with num_data={self.num_examples}, or change the sampler"
            )
        self._expected = num_data if self.num_examples is None else self.num_examples

    def check_resumable(self) -> None:
        """Refuses a loader whose later epochs a checkpoint cannot bring back.

        Raises:
            UserError: for one with a state of its own and a generator but without workers: torchdata draws a seed for
                the workers from it whenever the loader starts, a resumed one once more.
        """
        self._is_kept = True
        if self._stateful and self.loader.generator is not None and not self.loader.num_workers:
            raise UserError(
                f"fit: checkpoint= cannot bring back the order of a {type(self.loader).__name__} with a generator; "
                "leave out generator=, instead of which the seed of fit decides, or checkpoint="
            )

    def epoch(self, epoch: int, skip: int) -> Iterator[tuple[Tree, Tree]]:
        """The epoch's pairs (x, y), on the device, from the batch number ``skip`` on.

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
            self._stream = make_generator(self.seed, epoch).get_state()
        for part in (self.loader.sampler, self.loader.batch_sampler, self.loader.dataset):
            getattr(part, "set_epoch", lambda _: None)(epoch)
        for batch in self._draw_batches():
            number += 1
            x, y = read_batch(batch, "a batch of the DataLoader", self.read)
            size = count(y, "y")
            self._check_size(size, number)
            self._seen += size
            if self._is_kept:
                for leaf in leaves((x, y)):
                    self._checksum = zlib.crc32(bytes_of(leaf).data, self._checksum)
            if number == skip:
                self._check_resumed()
            if number > skip:
                yield move(x, self.device), move(y, self.device)
        if number < skip:
            self._check_resumed()
        if self._seen != self._expected:
            raise UserError(
                f"fit: the DataLoader yielded {self._seen} examples in epoch {epoch}, but {self._expected} were "
                "expected; num_data and every epoch must have the same number"
            )
        self._begin = None

    def gather(self, *index: Tree) -> tuple[Tree, Tree]:
        """Identity: the batches are pairs already."""
        x, y = index
        return x, y

    def _check_size(self, size: int, number: int) -> None:
        """Refuses targets that count something else than the examples that the loader draws for batch ``number``."""
        if not size:
            raise UserError("fit: a batch of the DataLoader has no examples")
        drawn = self.last_size if number == self.steps else self.batch_size
        if self.read is not None and drawn is not None and size != drawn:
            raise UserError(
                f"fit: batch= gives {size} targets y for {drawn} examples of the DataLoader; the first axis of y must "
                "count examples"
            )

    def _draw_batches(self) -> Iterator[Any]:
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
            numbers["state"] = _encode(cast(Any, self.loader).state_dict())
        return tensors, numbers

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint's state, whose tensors have the names and shapes of :meth:`state`'s."""
        for number, generator in enumerate(self._generators()):
            generator.set_state(tensors[f"loader.generator{number}"])
        if self._stateful:
            cast(Any, self.loader).load_state_dict(_decode(meta["state"]))
            self._stream = tensors["loader.stream"]
        self._resumed = (meta["seen"], meta["checksum"])

    def _check_resumed(self) -> None:
        if self._resumed not in (None, (self._seen, self._checksum)):
            raise CheckpointError(
                "fit: the DataLoader does not come back to the batches that checkpoint= was trained on; its data "
                "changed, or its order is not drawn from PyTorch's generators; choose another checkpoint"
            )


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
