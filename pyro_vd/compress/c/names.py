"""Names in C: of files, of what the header declares, and of the constants of each step."""

from __future__ import annotations

import re
from collections.abc import Container
from itertools import count
from pathlib import Path

from pyro_vd.errors import UserError

__all__ = ["check_names", "free_name", "to_identifier"]


def check_names(path: Path, prefix: str) -> None:
    """Refuses a name of a file or a prefix that C does not allow.

    Raises:
        UserError: naming it.
    """
    if path.suffix != ".c" or not re.fullmatch(r"[\w.-]+", path.stem, re.ASCII):
        raise UserError(f"to_c: {path.name!r}: the name must be of letters, digits, '_', '-' and '.', and end in .c")
    if not isinstance(prefix, str) or not re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII):
        raise UserError(f"to_c: prefix={prefix!r}: it must be a letter, then letters, digits and '_', as names in C")


def to_identifier(name: str) -> str:
    """An identifier of C that is like the name of a layer.

    Example:
        >>> to_identifier("block.conv1"), to_identifier("0")
        ('block_conv1', 'layer_0')
    """
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"layer_{name}" if name[:1].isdigit() else name


def free_name(name: str, taken: Container[str]) -> str:
    """``name``, or the first of ``name_2``, ``name_3``, ... that is not taken.

    Example:
        >>> free_name("fc", {"fc", "fc_2"})
        'fc_3'
    """
    if name not in taken:
        return name
    return next(other for other in (f"{name}_{number}" for number in count(2)) if other not in taken)
