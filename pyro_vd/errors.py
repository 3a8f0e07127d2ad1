"""The library's errors.

Which class is raised follows from what is wrong:

- :class:`UserError`, a ValueError: a value that the library does not accept, alone or together with others (an
  argument out of range, masks of another network, targets that do not fit the likelihood).
  :class:`CheckpointError` and :class:`DataError` are the UserErrors about a file or folder.
- TypeError: an argument of a type that the library does not accept, or a keyword that a function does not have;
  ``NoLocalRule`` is the one of an operation.
- NotImplementedError: a mathematical object that does not exist or is not known, such as the KL of a pair without a
  registered one, the density of an improper prior or the mean of a distribution that has none.
- OSError: the operating system refused.
- :class:`NonFiniteError`, a RuntimeError: training diverged.

Messages are one line and say what is wrong, where, and how to repair it. Process exit codes are the experiments'.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["CheckpointError", "CheckpointInUseError", "DataError", "NonFiniteError", "UserError", "did_you_mean"]


class UserError(ValueError):
    """A value that the library does not accept; the message says what, where and how to repair it."""


class CheckpointError(UserError):
    """A checkpoint that is damaged, of another run, or no checkpoint."""


class CheckpointInUseError(CheckpointError):
    """A checkpoint that another process or thread is writing."""


class DataError(UserError):
    """A dataset that is missing or damaged."""


class NonFiniteError(RuntimeError):
    """A loss, gradient or parameter was NaN or infinite; the message says whether the parameters are the last finite
    ones.

    Attributes:
        history: what :attr:`Posterior.history` held: a dict of numbers for every finished epoch.
    """

    def __init__(self, message: str, history: list[dict[str, float]]):
        super().__init__(message)
        self.history = history


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """``; did you mean 'sparse'?`` for a message about an unknown name; empty where no known name is near.

    Example:
        >>> did_you_mean("sprase", ["none", "sparse"]), did_you_mean("vgg", ["none", "sparse"])
        ("; did you mean 'sparse'?", '')
    """
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
