"""StopTraining: how ``on_epoch`` ends a training."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["StopTraining"]


class StopTraining(Exception):
    """Raised by ``on_epoch`` of ``fit`` to end the training after this epoch. Its row joins the history.

    Args:
        numbers: what ``on_epoch`` would return.

    Example:
        >>> def stop_at_small_loss(epoch, posterior):
        ...     if posterior.history and posterior.history[-1]["loss"] < 0.1:
        ...         raise StopTraining
    """

    def __init__(self, numbers: Mapping[str, float] | None = None):
        super().__init__("on_epoch ended the training")
        self.numbers = numbers
