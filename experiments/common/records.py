"""Records: one JSON file per run, strict, with a digest of its content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyro_vd.errors import UserError
from pyro_vd.files import read_file, write_atomically

__all__ = ["DIGEST", "Record", "digest_of", "read_json", "read_record", "read_records", "write_record"]

Record = dict[str, Any]
DIGEST = "digest"
SIZE_LIMIT = 64 << 20  # bytes
_NUMBER, _TEXT, _COUNT, _NONE = (int, float), (str,), (int,), type(None)
# Types of the entries that tables read, checked if the entry is required.
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("experiment", "protocol", "dataset", "network", "scheme", "row", "column", "device", "torch"), _TEXT
    ),
    **dict.fromkeys(("seed", "batch_size", "num_samples"), _COUNT),
    "weights": (*_COUNT, _NONE),  # None in the record of a diverged run
    **dict.fromkeys(("seconds", "test_error", "test_error_mc", "test_error_best", "compression"), (*_NUMBER, _NONE)),
    "sparsity_per_layer": (dict,),
    "diverged": (bool, str),
}


def write_record(path: Path, record: Record) -> None:
    """Writes the record with its digest, atomically.

    Raises:
        ValueError: for a number that is not finite; write None instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    body = json.loads(json.dumps(record, allow_nan=False))  # as it will be read: lists for tuples, and text for keys
    write_atomically(path, _format({**body, DIGEST: digest_of(body)}).encode())


def _format(body: Record) -> str:
    """JSON with an entry per line, and a line per row of a list of lists or objects."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {_format_entry(value)}" for name, value in body.items()) + "\n}\n"


def _format_entry(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(row, list | dict) for row in value):
        return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n ]"
    return json.dumps(value)


def read_records(folder: Path, required: Iterable[str] = ()) -> list[Record]:
    """All records of a folder, by file name.

    Raises:
        UserError: for a file that is not a record; the message names the file and what it lacks.
    """
    return [read_record(path, required) for path in sorted(folder.glob("*.json"))]


def read_record(path: Path, required: Iterable[str] = ()) -> Record:
    """The record at ``path``, which must exist, and the file's name under ``file``.

    Raises:
        UserError: for a file that is not a record or has been altered; the message names the file and what it lacks.
    """
    record = read_json(path)
    if record.pop(DIGEST, None) != digest_of(record):
        raise UserError(
            f"{path}: its digest does not match its content: altered, or of an older version; run its experiment again"
        )
    required = set(required)
    lacking = sorted(required - record.keys())
    if lacking:
        raise UserError(f"{path}: lacks {', '.join(lacking)}; run its experiment again")
    for name in sorted(required & TYPES.keys()):
        value, types = record[name], TYPES[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            known = " or ".join(kind.__name__ for kind in types)
            raise UserError(f"{path}: {name} is {str(value)[:40]!r}, expected {known}; run its experiment again")
    return {**record, "file": path.name}


def read_json(path: Path) -> Record:
    """Reads strict JSON: no NaN, no number beyond the range of a float, no key twice.

    Raises:
        UserError: for anything else; the message names the file.
    """
    try:
        record = json.loads(
            read_file(path, SIZE_LIMIT).decode(),
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_without_duplicates,
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not a JSON record; delete it or run its experiment again") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}: JSON, but not a record; delete it or run its experiment again")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key twice")
    return record


def digest_of(body: Record) -> str:
    """The digest of a record without its own entry."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()
