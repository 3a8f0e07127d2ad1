"""Mutant: a line of the project that is broken on purpose."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """``old`` becomes ``new`` in ``file``; at least one of ``tests`` has to fail."""

    what: str
    file: str
    old: str
    new: str
    tests: str
