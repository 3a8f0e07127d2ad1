"""Learning-rate and KL-weight schedules: functions of the epoch alone, so that a resumed run needs no state."""

from collections.abc import Callable

__all__ = ["Schedule", "constant", "hold_then_decay", "warm_up"]

Schedule = Callable[[int], float]


def constant(value: float = 1.0) -> Schedule:
    """The same value in every epoch."""
    return lambda epoch: value


def hold_then_decay(hold: int, total: int) -> Schedule:
    """1 for ``hold`` epochs, then linear to 0 at epoch ``total`` (Molchanov et al. 2017, published code).

    Example:
        >>> schedule = hold_then_decay(100, 200)
        >>> [schedule(epoch) for epoch in (0, 99, 100, 150, 199)]
        [1.0, 1.0, 1.0, 0.5, 0.01]
    """
    _check(0 <= hold < total, f"hold_then_decay(hold={hold}, total={total}): 0 <= hold < total is needed")
    return lambda epoch: min(1.0, max(0.0, (total - epoch) / (total - hold)))


def warm_up(wait: int, ramp: int) -> Schedule:
    """0 for ``wait`` epochs, then linear to 1 over ``ramp`` epochs, then 1.

    Example:
        >>> schedule = warm_up(5, 15)
        >>> [schedule(epoch) for epoch in (4, 5, 8, 20)]
        [0.0, 0.0, 0.2, 1.0]
    """
    _check(wait >= 0 and ramp >= 1, f"warm_up(wait={wait}, ramp={ramp}): wait >= 0 and ramp >= 1 are needed")
    return lambda epoch: min(1.0, max(0.0, (epoch - wait) / ramp))


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
