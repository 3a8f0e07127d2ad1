"""FromTorch: a scheduler of PyTorch as a schedule of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.optim import lr_scheduler

from pyro_vd.errors import UserError

__all__ = ["FromTorch"]


@dataclass(frozen=True, init=False, repr=False)
class FromTorch:
    """The learning rates of a scheduler of ``torch.optim.lr_scheduler`` that is stepped once an epoch, as factors.

    The scheduler is given an optimizer with a rate of 1, so options that are rates, such as ``eta_min``, are factors of
    ``lr`` here. It depends on the epoch alone, so a run resumes with it.

    Args:
        scheduler: its class.
        **options: its arguments besides the optimizer.

    Raises:
        UserError: for what is not a scheduler, one that follows a score or is made of functions or of other schedulers,
            and for options that it refuses.

    Example:
        >>> schedule = FromTorch(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.5)
        >>> [schedule(epoch) for epoch in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
        >>> schedule
        FromTorch(StepLR, gamma=0.5, step_size=2)
    """

    scheduler: type[lr_scheduler.LRScheduler]
    options: tuple[tuple[str, Any], ...]

    def __init__(self, scheduler: type[lr_scheduler.LRScheduler], **options: Any):
        if not isinstance(scheduler, type) or not issubclass(scheduler, lr_scheduler.LRScheduler):
            raise UserError(f"FromTorch: {scheduler!r} is not a class of torch.optim.lr_scheduler")
        name = scheduler.__name__
        if issubclass(scheduler, lr_scheduler.ReduceLROnPlateau):
            raise UserError(f"FromTorch: {name} follows a score, not the epoch; choose another scheduler")
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in sorted(options.items())}
        if any(map(callable, _flatten(known.values()))):
            raise UserError(f"FromTorch: {name} is made of a function; give the function of the epoch as lr_schedule")
        object.__setattr__(self, "scheduler", scheduler)
        object.__setattr__(self, "options", tuple(known.items()))
        try:
            rate, others = self(1), _find_rates(self).find_changes()
        except Exception as error:  # whatever the scheduler's code raises
            raise UserError(f"FromTorch: {name} cannot be made with {options}: {error}") from error
        if not math.isfinite(rate):
            raise UserError(f"FromTorch: {name} gives {rate}")
        if others:
            raise UserError(
                f"FromTorch: {name} changes {', '.join(others)} too, which a schedule of the learning rate does not; "
                "pass cycle_momentum=False, or another scheduler"
            )

    def __call__(self, epoch: int) -> float:
        try:
            return _find_rates(self).at(epoch)
        except ValueError as error:  # OneCycleLR after its last step
            raise UserError(f"{self} has no rate at epoch {epoch}: {error}") from None

    def __repr__(self) -> str:
        options = [f"{key}={value!r}" for key, value in self.options]
        return f"FromTorch({', '.join([self.scheduler.__name__, *options])})"


def _flatten(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, tuple) else (value,)


class _Rates:
    """The rates of a scheduler, made as far as they have been asked for."""

    def __init__(self, schedule: FromTorch):
        self.optimizer = torch.optim.SGD(
            [torch.zeros(())], lr=1.0
        )  # of a tensor without a gradient: a step does nothing
        self.scheduler = schedule.scheduler(self.optimizer, **dict(schedule.options))
        self.made = [self._read()]

    def at(self, epoch: int) -> float:
        while len(self.made) <= epoch:
            self.optimizer.step()
            self.scheduler.step()
            self.made.append(self._read())
        return self.made[epoch]

    def find_changes(self) -> list[str]:
        """What else of the optimizer the scheduler has changed."""
        defaults, group = self.optimizer.defaults, self.optimizer.param_groups[0]
        return [name for name, value in defaults.items() if name != "lr" and group[name] != value]

    def _read(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


_find_rates = lru_cache(maxsize=64)(_Rates)
