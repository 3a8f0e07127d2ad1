"""Schedules of the learning rate, KL weight and masking threshold, as values that can be compared and stored.

A schedule is called with the epoch, counted from 0, and returns a number. It depends on the epoch alone, so a resumed
run needs no state of it. ``wait``, ``ramp``, ``hold`` and ``total`` are numbers of epochs in every schedule.

A learning rate may change at every step instead: if the schedule has the attribute ``per_step = True``, step ``s`` of
the ``n`` steps of epoch ``e`` has the rate at ``e + s / n``. ``OneCycle`` is such a schedule.

Any callable of the epoch is a schedule. The dataclasses here are comparable: two that are equal are the same schedule,
and their repr is how one writes them. So is any frozen dataclass with ``__call__``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import ClassVar

from pyro_vd.errors import UserError
from pyro_vd.inference.torch_schedule import FromTorch
from pyro_vd.inference.user_numbers import to_number, to_whole_number

__all__ = [
    "Constant",
    "Cosine",
    "FromTorch",
    "HoldThenDecay",
    "OneCycle",
    "Schedule",
    "StepDecay",
    "WarmUp",
    "describe_schedule",
    "is_per_step",
]

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same value in every epoch.

    Raises:
        UserError: for a value that is not a number. Infinity is one.

    Example:
        >>> Constant(0.5)(7)
        0.5
        >>> Constant(1) == Constant(1.0)
        True
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        _set(self, value=to_number("Constant: value", self.value, -math.inf, math.inf))

    def __call__(self, epoch: int) -> float:
        return self.value


@dataclass(frozen=True)
class WarmUp:
    """0 for ``wait`` epochs, then linear to ``weight`` over ``ramp`` epochs, then ``weight``.

    Raises:
        UserError: unless ``wait >= 0`` and ``ramp >= 1`` are whole numbers and ``weight`` is finite and at least 0.

    Example:
        >>> schedule = WarmUp(wait=5, ramp=15)
        >>> [schedule(epoch) for epoch in (4, 5, 8, 20)]
        [0.0, 0.0, 0.2, 1.0]
        >>> WarmUp(5, 15, weight=0.5)(20)
        0.5
    """

    wait: int
    ramp: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        _set(
            self,
            wait=to_whole_number("WarmUp: wait", self.wait),
            ramp=to_whole_number("WarmUp: ramp", self.ramp),
            weight=to_number("WarmUp: weight", self.weight, 0.0, sys.float_info.max),
        )
        _check(self.wait >= 0 and self.ramp >= 1, f"{self}: wait must be at least 0 and ramp at least 1")

    def __call__(self, epoch: int) -> float:
        return self.weight * min(1.0, max(0.0, (epoch - self.wait) / self.ramp))


@dataclass(frozen=True)
class HoldThenDecay:
    """1 for ``hold`` epochs, then linear to 0 at epoch ``total`` (Molchanov et al. 2017, published code).

    Raises:
        UserError: unless ``hold`` and ``total`` are whole numbers and ``0 <= hold < total``.

    Example:
        >>> schedule = HoldThenDecay(hold=100, total=200)
        >>> [schedule(epoch) for epoch in (0, 99, 100, 150, 199)]
        [1.0, 1.0, 1.0, 0.5, 0.01]
    """

    hold: int
    total: int

    def __post_init__(self) -> None:
        _set(
            self,
            hold=to_whole_number("HoldThenDecay: hold", self.hold),
            total=to_whole_number("HoldThenDecay: total", self.total),
        )
        _check(0 <= self.hold < self.total, f"{self}: hold must be at least 0 and less than total")

    def __call__(self, epoch: int) -> float:
        return min(1.0, max(0.0, (self.total - epoch) / (self.total - self.hold)))


@dataclass(frozen=True)
class StepDecay:
    """1 for ``every`` epochs, then ``factor`` for as many, then ``factor ** 2``, and so on.

    Raises:
        UserError: unless ``every >= 1`` is a whole number and ``0 <= factor <= 1``.

    Example:
        >>> schedule = StepDecay(every=20, factor=0.5)
        >>> [schedule(epoch) for epoch in (0, 19, 20, 40)]
        [1.0, 1.0, 0.5, 0.25]
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _set(
            self,
            every=to_whole_number("StepDecay: every", self.every),
            factor=to_number("StepDecay: factor", self.factor, 0.0, 1.0),
        )
        _check(self.every >= 1, f"{self}: every must be at least 1")

    def __call__(self, epoch: int) -> float:
        return self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 at epoch 0 to ``final`` at epoch ``total`` (Loshchilov and Hutter 2017, equation 5, without
    restarts), then ``final``.

    Raises:
        UserError: unless ``total >= 1`` is a whole number and ``0 <= final <= 1``.

    Example:
        >>> schedule = Cosine(total=100, final=0.1)
        >>> [round(schedule(epoch), 3) for epoch in (0, 50, 100, 200)]
        [1.0, 0.55, 0.1, 0.1]
    """

    total: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _set(
            self,
            total=to_whole_number("Cosine: total", self.total),
            final=to_number("Cosine: final", self.final, 0.0, 1.0),
        )
        _check(self.total >= 1, f"{self}: total must be at least 1")

    def __call__(self, epoch: int) -> float:
        share = min(max(epoch, 0), self.total) / self.total
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class OneCycle:
    """Linear from ``start`` at epoch 0 to 1 at epoch ``peak``, then linear to ``final`` at epoch ``total``, then
    ``final`` (one cycle of Smith 2017, "Cyclical learning rates for training neural networks", with its own ends).

    As the schedule of a learning rate it changes at every step, between the epochs too. ``peak`` may be a fraction.

    Raises:
        UserError: unless ``total`` is a whole number, ``0 < peak < total``, and ``start`` and ``final`` lie between 0
            and 1.

    Example:
        >>> schedule = OneCycle(total=10, peak=2, start=0.25)
        >>> [schedule(epoch) for epoch in (0, 0.5, 1, 2, 6, 9.5, 10)]
        [0.25, 0.4375, 0.625, 1.0, 0.5, 0.0625, 0.0]
    """

    total: int
    peak: float
    start: float = 0.0
    final: float = 0.0
    per_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _set(
            self,
            total=to_whole_number("OneCycle: total", self.total),
            peak=to_number("OneCycle: peak", self.peak, -math.inf, math.inf),
            start=to_number("OneCycle: start", self.start, 0.0, 1.0),
            final=to_number("OneCycle: final", self.final, 0.0, 1.0),
        )
        _check(0 < self.peak < self.total, f"{self}: peak must lie between epoch 0 and total")

    def __call__(self, epoch: float) -> float:
        if epoch < self.peak:
            return self.start + (1 - self.start) * max(epoch, 0) / self.peak
        left = max(self.total - epoch, 0) / (self.total - self.peak)
        return self.final + (1 - self.final) * left


def is_per_step(schedule: Schedule) -> bool:
    """Whether the schedule of a learning rate changes at every step."""
    return bool(getattr(schedule, "per_step", False))


def describe_schedule(schedule: Schedule) -> str | None:
    """The repr of a schedule that is a frozen dataclass; None for another callable, which is not comparable.

    Example:
        >>> describe_schedule(WarmUp(5, 15)), describe_schedule(lambda epoch: 1.0)
        ('WarmUp(wait=5, ramp=15, weight=1.0)', None)
    """
    parameters = getattr(type(schedule), "__dataclass_params__", None)
    return repr(schedule) if is_dataclass(schedule) and parameters is not None and parameters.frozen else None


def _set(schedule: object, **values: float) -> None:
    """Sets fields of a frozen dataclass to Python's numbers: a NumPy scalar has another repr."""
    for name, value in values.items():
        object.__setattr__(schedule, name, value)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)
