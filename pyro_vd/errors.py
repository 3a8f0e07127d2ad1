"""Errors that a user can mend: one line each, with the exit code an experiment ends with."""

__all__ = ["CheckpointError", "DataError", "UserError"]


class UserError(Exception):
    """Bad input; the message says what, where and how to mend it."""

    exit_code = 2


class CheckpointError(UserError):
    """A checkpoint that is damaged, of another run, or no checkpoint."""

    exit_code = 5


class DataError(UserError):
    """A dataset that is missing or damaged."""

    exit_code = 7
