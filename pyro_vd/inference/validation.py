"""Validation: the score of held-out examples after every epoch, the best epoch, and when patience is over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, SupportsFloat, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from pyro_vd.data import LabeledImages
from pyro_vd.errors import UserError
from pyro_vd.handlers import posterior_mean
from pyro_vd.inference.examples import (
    Data,
    DatasetItems,
    Examples,
    ReadBatch,
    TensorExamples,
    check_read,
    describe_examples,
    describe_read,
    read_batch,
    read_examples,
)
from pyro_vd.inference.schedules import describe_schedule
from pyro_vd.inference.training import Training
from pyro_vd.inference.user_numbers import to_number, to_whole_number
from pyro_vd.model.pair import load_tensors, pair_state
from pyro_vd.model.targets import check_target_values, log_likelihoods, observed_sites
from pyro_vd.posterior import Posterior
from pyro_vd.pytree import Tree, count, first, move

__all__ = ["SCORE", "BestState", "Validation", "is_share", "make_validation"]

SCORE = "validation_log_likelihood"
BATCH_SIZE = 1000
Held = Examples | DataLoader[Any]
Row = Mapping[str, float]


class BestState(NamedTuple):
    """A pair's tensors by name, at the end of the epoch that was its best."""

    epoch: int
    tensors: dict[str, Tensor]


class Validation:
    """Held-out examples, and the state of every pair in its best epoch so far.

    Which epoch is the best, and whether patience is over, follows from the history alone, so that a resumed run needs
    nothing else, and goes on with another patience.

    Args:
        examples: on the device of the network, or a loader of batches.
        device: of the network.
        first: the first epoch that is compared.
        patience: epochs after the best one; None trains all epochs.
        best: whether ``fit`` returns the best epoch instead of the last one.
        read: of what a loader yields, see :func:`pyro_vd.fit`.
    """

    def __init__(
        self,
        examples: Held,
        device: torch.device,
        first: int,
        patience: int | None,
        best: bool,
        read: ReadBatch | None = None,
    ):
        self.examples, self.device = examples, device
        self.first, self.patience, self.returns_best, self.read = first, patience, best, read
        self.kept: dict[int, BestState] = {}  # by the number of the pair

    @property
    def content(self) -> str:
        """What the examples are, for a run that must go on with the same."""
        if isinstance(self.examples, DataLoader):
            of = f"{type(self.examples).__name__} of {type(self.examples.dataset).__name__}"
            return f"{of}{describe_read(self.read)}, contents not checked"
        return describe_examples(self.examples)

    def check(self, posterior: Posterior) -> None:
        """Raises UserError for inputs that the network refuses, and for targets that do not fit the likelihood."""
        number = 0
        try:
            for targets, y in self._predict(posterior):
                for site, one in observed_sites(targets, y).items():
                    check_target_values(*one, site)
                number += count(y, "y")
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).partition("\n")[0].removeprefix("fit: ")
            reason = reason.replace(", but found invalid values:", "; a value does not: look for NaN in the inputs")
            raise UserError(f"fit: the validation set does not fit the model: {reason}") from None
        if not number:
            raise UserError("fit: the validation set has no examples; a loader with drop_last=True may drop all")

    def score(self, posterior: Posterior) -> float:
        """Mean log-likelihood of the targets under the network at the posterior mean, in nats per example."""
        total, number = 0.0, 0
        for targets, y in self._predict(posterior):
            total += sum(found.sum().item() for found in log_likelihoods(targets, y))
            number += count(y, "y")
        return total / number

    def find_best(self, history: Sequence[Row]) -> int | None:
        """The compared epoch with the highest score, the first of equals; None before there is one."""
        compared = range(self.first, len(history))
        return max(compared, key=lambda epoch: history[epoch][SCORE], default=None)

    def is_over(self, history: Sequence[Row]) -> bool:
        """Whether the best epoch is ``patience`` epochs ago."""
        best = self.find_best(history)
        return None not in (best, self.patience) and len(history) - 1 - best >= self.patience  # type: ignore[operator]

    def keep(self, posteriors: Sequence[Posterior]) -> None:
        """Keeps the state of each pair whose last epoch is its best."""
        for number, posterior in enumerate(posteriors):
            last = len(posterior.history) - 1
            if self.find_best(posterior.history) == last:
                state = pair_state(posterior.model, posterior.guide)
                self.kept[number] = BestState(last, {name: tensor.detach().clone() for name, tensor in state})

    def finish(self, posteriors: Sequence[Posterior]) -> None:
        """Sets ``best_epoch``, and puts the pairs into its state if it is to be returned."""
        for number, posterior in enumerate(posteriors):
            kept = self.kept.get(number)
            if kept is None or kept.epoch != self.find_best(posterior.history):
                continue  # another schedule since then, with which the epoch is not compared
            posterior.best_epoch = kept.epoch
            if self.returns_best:
                load_tensors(dict(pair_state(posterior.model, posterior.guide)), kept.tensors, "the best epoch")

    @torch.no_grad()
    def _predict(self, posterior: Posterior) -> Iterator[tuple[Tree, Tree]]:
        """The likelihood at the posterior mean, and the targets, of every batch."""
        with posterior_mean():
            weights = posterior.weights()
        for x, y in self._batches():
            yield posterior.model.likelihood(posterior.outputs(weights, x, None)), y

    def _batches(self) -> Iterator[tuple[Tree, Tree]]:
        if isinstance(self.examples, DataLoader):
            for batch in self.examples:
                x, y = read_batch(batch, "a batch of the validation set", self.read)
                yield move(x, self.device), move(y, self.device)
            return
        for index in torch.arange(len(self.examples), device=self.device).split(BATCH_SIZE):
            yield self.examples.batch(index)


def make_validation(
    train: Data,
    validation: Data | float | None,
    patience: int | None,
    best: bool,
    training: Training,
    posterior: Posterior,
    seed: int,
    read: ReadBatch | None = None,
) -> tuple[Data, Validation | None]:
    """The examples to train on, and the validation; see :func:`pyro_vd.fit`.

    Raises:
        UserError: for a patience without a validation set, a share that holds out no example or all, a DataLoader that
            a share is asked of, for a schedule whose last value is not known, and for a ``batch=`` of tensors.
    """
    check_read(read, train, validation)
    if patience is not None:
        patience = to_whole_number("fit: patience", patience)
        if patience < 1:
            raise UserError(f"fit: patience={patience} must be at least 1")
    if validation is None:
        if patience is not None:
            raise UserError("fit: patience needs validation=, the examples whose score it waits for")
        return train, None
    like = next(posterior.guide.parameters())
    held: Held
    if is_share(validation):
        train, held = _hold_out(train, validation, seed, like.dtype, int(posterior.model.num_data), read)
    else:
        held = validation if isinstance(validation, DataLoader) else _read(cast("Data", validation), like.dtype, read)
    examples: Held = held if isinstance(held, DataLoader) else _without_augmentation(held).to(like.device)
    start = _find_first_compared(training, is_needed=best or patience is not None)
    return train, Validation(examples, like.device, start, patience, best, read)


def _hold_out(
    train: Data, share: float, seed: int, dtype: torch.dtype, num_data: int, read: ReadBatch | None
) -> tuple[Data, Examples]:
    """A random share of the examples, by the seed, and the others."""
    share = to_number("fit: validation", share, 0.0, 1.0)
    if isinstance(train, DataLoader):
        raise UserError(f"fit: validation={share} cannot divide a DataLoader; give the validation set itself")
    examples = read_examples(train, dtype, read=read)
    held = round(share * len(examples))
    left = len(examples) - held
    if not (held and left):
        raise UserError(f"fit: validation={share} holds out {held} of {len(examples)} examples; give another share")
    if left != num_data:
        raise UserError(
            f"fit: validation={share} holds out {held} of {len(examples)} examples, but the model was lifted with "
            f"num_data={num_data}; lift it with num_data={left}, the number of the others"
        )
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    rest, chosen = (_select(examples, index.sort().values) for index in (order[held:], order[:held]))
    return rest, _read(chosen, dtype, read)


def _select(examples: Examples, index: Tensor) -> Any:
    if isinstance(examples, DatasetItems):
        return Subset(examples.dataset, index.tolist())  # type: ignore[arg-type]
    if isinstance(examples, TensorExamples):
        return TensorExamples(*examples.batch(index.to(first(examples.y).device)))
    where = index.to(examples.labels.device)
    return replace(examples, images=examples.images[where], labels=examples.labels[where])


def _read(held: Data, dtype: torch.dtype, read: ReadBatch | None) -> Examples:
    return read_examples(held, dtype, "the validation set", read)


def is_share(validation: object) -> TypeGuard[float]:
    """Whether it is a share. A tensor or an array of one number is one too."""
    return isinstance(validation, SupportsFloat) and not getattr(validation, "ndim", 0)


def _without_augmentation(examples: Examples) -> Examples:
    if not isinstance(examples, LabeledImages):
        return examples
    return LabeledImages(**{field.name: getattr(examples, field.name) for field in fields(LabeledImages)})


def _find_first_compared(training: Training, is_needed: bool) -> int:
    """The first epoch from which the KL weight and the threshold are those of the last epoch: the objective is the same
    from there on."""
    schedules = {name: training.schedules[name] for name in ("kl_schedule", "threshold")}
    unknown = [name for name, schedule in schedules.items() if describe_schedule(schedule) is None]
    if unknown and is_needed:
        raise UserError(
            f"fit: epochs are compared after the warm-up, but {unknown[0]} is a function, whose values are not known "
            "beforehand; write it as a frozen dataclass with __call__, or pass best=False and no patience"
        )
    if unknown:
        return 0
    return max(
        _start_of_last([training.evaluate(name, epoch) for epoch in range(training.epochs)]) for name in schedules
    )


def _start_of_last(values: Sequence[float]) -> int:
    """The index from which all values are the last one."""
    return next((i + 1 for i in reversed(range(len(values))) if values[i] != values[-1]), 0)
