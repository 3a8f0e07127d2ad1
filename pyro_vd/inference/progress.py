"""A progress bar that never ends a run: not if the terminal is closed, broken or full."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

__all__ = ["TolerantStream", "progress_bar"]


class TolerantStream:
    """A text stream that writes nothing after its first failure. Characters that its encoding lacks become question
    marks.

    Attributes:
        failure: why something was not written; None if all was.
    """

    def __init__(self, stream: TextIO):
        self.failure: Exception | None = None
        self._stream = stream

    def write(self, text: str) -> int:
        if self.failure is None:
            try:
                self._write(text)
            except (OSError, ValueError) as error:  # ValueError: of a closed file
                self.failure = error
        return len(text)

    def flush(self) -> None:
        if self.failure is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self.failure = error

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self._stream.write(text.encode(encoding, errors="replace").decode(encoding))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class EpochBar(tqdm):
    """A bar of epochs. Numbers that the width has no place for are left out whole, the last first."""

    FORMAT = "{desc}{n_fmt}/{total_fmt} |{bar}| {elapsed}<{remaining}{postfix}"

    @staticmethod
    def format_meter(n: float, total: float, elapsed: float, **how: Any) -> str:
        bare = how | {"ncols": None, "bar_format": EpochBar.FORMAT.replace("{bar}", " ")}
        numbers = [number for number in (how["postfix"] or "").split(", ") if number]
        while numbers and how["ncols"]:
            if len(tqdm.format_meter(n, total, elapsed, **bare | {"postfix": ", ".join(numbers)})) <= how["ncols"]:
                break
            numbers.pop()
        line: str = tqdm.format_meter(n, total, elapsed, **how | {"postfix": ", ".join(numbers)})
        return line


def progress_bar(total: int, initial: int, shown: bool) -> tqdm:
    """tqdm's bar of epochs on standard error; hidden without a standard error."""
    stream = sys.stderr
    shown = shown and stream is not None
    if shown and not isinstance(stream, TolerantStream):  # tqdm.write clears bars on sys.stderr itself only
        stream = TolerantStream(stream)
    return EpochBar(
        total=total,
        initial=initial,
        bar_format=EpochBar.FORMAT,
        disable=not shown,
        dynamic_ncols=True,
        file=stream if shown else None,
    )
