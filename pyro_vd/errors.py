"""Errors that a user can mend, one line each with the exit code an experiment ends with, and a broken training run."""

__all__ = ["CheckpointError", "DataError", "NonFiniteError", "UserError"]


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
