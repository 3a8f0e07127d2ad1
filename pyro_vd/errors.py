"""Errors that a user can mend, one line each with the exit code an experiment ends with, and a broken training run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["CheckpointError", "DataError", "NonFiniteError", "UserError", "did_you_mean"]


class UserError(Exception):
    """Bad input; the message says what, where and how to mend it."""

    exit_code = 2


class CheckpointError(UserError):
    """A checkpoint that is damaged, of another run, or no checkpoint."""

    exit_code = 5


class DataError(UserError):
    """A dataset that is missing or damaged."""

    exit_code = 7


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
