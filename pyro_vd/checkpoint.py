"""Checkpoints: tensors as safetensors, everything else as JSON, written atomically and verified when read.

A checkpoint ``NAME`` is the file ``NAME.json``, which names a tensor file beside it and holds its SHA-256, and a digest
of itself. Replacing the JSON is the commit point: until then the previous checkpoint is whole. The generation before
stays as ``NAME.json.previous`` with its own tensor file, and is read if the newest is damaged. Nothing is ever
unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pyro_vd.errors import CheckpointError
from pyro_vd.files import process_is_alive, read_file, write_atomically, write_together

__all__ = ["as_json", "exists", "load", "make_ready", "metadata", "save"]

FORMAT = 2
JSON_LIMIT = 256 << 20  # bytes
TENSORS_LIMIT = 1 << 40


class _DamageError(CheckpointError):
    """Damage that another generation of the checkpoint need not have."""


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Writes the checkpoint ``path`` (no suffix); the one that was there stays valid until this one is on disk.

    The new files are read back and compared before the generation before the last goes.

    Args:
        path: ``folder/name``; makes ``folder/name.json`` and ``folder/name-<digest>.safetensors``.
        tensors: named tensors, any device; a tied one may have several names.
        meta: JSON values, finite numbers only; NumPy's and PyTorch's scalars become Python's.

    Raises:
        OSError: if the disk refuses, or gives back other bytes; the previous checkpoint is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = safetensors.torch.save(_unshared(tensors))
    digest = hashlib.sha256(payload).hexdigest()
    file = path.with_name(f"{path.name}-{digest[:16]}.safetensors")
    write_atomically(file, payload)
    if hashlib.sha256(read_file(file, len(payload))).hexdigest() != digest:
        raise OSError(errno.EIO, "the disk gives back other bytes than were written", str(file))
    body = {"format": FORMAT, "tensors": file.name, "sha256": digest, "meta": as_json(dict(meta))}
    content = json.dumps({**body, "digest": _digest(body)}, indent=1, allow_nan=False).encode()
    write_together({**_generation_before(path), _json(path): content})
    _clean_up(path)


def load(path: Path, limit: int = TENSORS_LIMIT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the meta of the checkpoint ``path`` (no suffix).

    If it is damaged and the generation before it is not, that one, with a warning.

    Args:
        limit: size in bytes from which on a tensor file is refused unread.

    Raises:
        CheckpointError: if it is missing, truncated, altered in any bit, too large, no regular file, a pickle, or of
            another format.
    """
    try:
        return _load(path, _json(path), limit)
    except _DamageError as damage:
        try:
            found = _load(path, _previous(path), limit)
        except CheckpointError:
            raise damage from None
        warnings.warn(f"{damage}; going on from the generation before it, {_previous(path).name}", stacklevel=2)
        return found


def metadata(path: Path) -> dict[str, Any]:
    """The meta of the checkpoint ``path`` (no suffix), or of the generation before it, without its tensors.

    Raises:
        CheckpointError: as :func:`load`.
    """
    try:
        return _read_meta(path, _json(path))
    except _DamageError as damage:
        try:
            return _read_meta(path, _previous(path))
        except CheckpointError:
            raise damage from None


def _read_meta(path: Path, file: Path) -> dict[str, Any]:
    meta: dict[str, Any] = _checked(path, file, _read_json(file))["meta"]
    return meta


def as_json(meta: Any) -> Any:
    """``meta`` as it is read back: lists for tuples, Python's numbers for NumPy's and PyTorch's scalars.

    Raises:
        UserError: for a number that is not finite.
        TypeError: for what JSON does not have.
    """
    return json.loads(json.dumps(meta, allow_nan=False, default=_number))


def exists(path: Path) -> bool:
    """Whether there is a checkpoint of this name, valid or not."""
    return _json(path).exists()


def make_ready(path: Path) -> None:
    """Makes the folder of the checkpoint ``path`` and tries to write there, under the longest name in use.

    Raises:
        CheckpointError: if that fails, naming the reason.
    """
    probe = path.with_name(f"{path.name}-{'0' * 16}.safetensors.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); choose another run") from None


def _load(path: Path, file: Path, limit: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    for _ in range(100):
        content = _read_json(file)
        try:
            body = _checked(path, file, content)
            return _read_tensors(path.parent / body["tensors"], body["sha256"], file.name, limit), body["meta"]
        except CheckpointError:
            if _read_json(file) == content:
                raise
            # A writer replaced it meanwhile: once more.
    raise CheckpointError(f"{file}: replaced 100 times while it was read; try again")


def _read_tensors(file: Path, sha256: str, source: str, limit: int) -> dict[str, Tensor]:
    try:
        payload = read_file(file, limit)
    except OSError as error:
        raise _DamageError(f"{file}: cannot be read ({error.strerror}), which leaves {source} incomplete") from None
    if hashlib.sha256(payload).hexdigest() != sha256:
        raise _DamageError(f"{file}: SHA-256 differs from {source}'s; truncated or altered, not used")
    try:
        return safetensors.torch.load(payload)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # of the header, a dtype, a shape
        raise _DamageError(f"{file}: not a safetensors file ({' '.join(str(error).split())})") from None


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, of which no two share memory: a tied one is written under each of its names."""
    places: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        held = tensor.detach().cpu().contiguous()
        found[name] = held.clone() if held.data_ptr() in places else held
        places.add(held.data_ptr())
    return found


def _json(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".json.previous")


def _generation_before(path: Path) -> dict[Path, bytes]:
    """What the file of the previous generation is to hold: the present one's JSON if that is whole."""
    if not exists(path):
        _previous(path).unlink(missing_ok=True)  # of a run that was deleted
        return {}
    try:
        content = _read_json(_json(path))
        body = _checked(path, _json(path), content)
        _read_tensors(path.parent / body["tensors"], body["sha256"], "", TENSORS_LIMIT)
    except CheckpointError:
        return {}
    return {_previous(path): content}


def _clean_up(path: Path) -> None:
    """Deletes the tensor files that no generation names and what dead processes left of theirs."""
    named = set()
    for file in (_json(path), _previous(path)):
        try:
            named.add(_checked(path, file, _read_json(file))["tensors"])
        except CheckpointError:  # there is no generation before, or it is damaged
            continue
    partial = re.compile(re.escape(path.name) + r"(-[0-9a-f]{16}\.safetensors|\.json(\.previous)?)\.(\d{1,9})\.part")
    for old in path.parent.iterdir():
        left = partial.fullmatch(old.name)
        if (left and not process_is_alive(int(left[3]))) or (_is_tensor_file(path, old.name) and old.name not in named):
            old.unlink(missing_ok=True)  # another process that saves the same may have been here


def _is_tensor_file(path: Path, name: str) -> bool:
    """Whether ``name`` is a tensor file of the checkpoint ``path`` and not, say, of one whose name begins the same."""
    return re.fullmatch(re.escape(path.name) + r"-[0-9a-f]{16}\.safetensors", name) is not None


def _read_json(file: Path) -> bytes:
    try:
        return read_file(file, JSON_LIMIT)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    except OSError as error:
        raise _DamageError(f"{file}: cannot be read ({error.strerror})") from None


def _checked(path: Path, file: Path, content: bytes) -> dict[str, Any]:
    if content[:1] in (b"\x80", b"P"):
        raise CheckpointError(f"{file}: a pickle or zip archive, which pyro_vd never loads; it could run any code")
    try:
        body: dict[str, Any] = json.loads(content)
        matches = body.pop("digest") == _digest(body)
        version = body["format"]
        whole = isinstance(body["meta"], dict) and isinstance(body["sha256"], str)
        named = _is_tensor_file(path, body["tensors"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise _DamageError(f"{file}: not a pyro_vd checkpoint, or truncated") from None
    if not matches:
        raise _DamageError(f"{file}: its digest does not match its content; altered, not used")
    if version != FORMAT:
        mend = "update pyro_vd" if isinstance(version, int) and version > FORMAT else "choose another run"
        raise CheckpointError(f"{file}: format {version}, this version reads format {FORMAT} alone; {mend}")
    if not whole or not named:
        what = f"names {body['tensors']!r}, which is not one of its own tensor files" if whole else "meta is no object"
        raise CheckpointError(f"{file}: {what}")
    return body


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _number(value: Any) -> Any:
    """A NumPy or PyTorch scalar as Python's number."""
    if not hasattr(value, "item"):
        raise TypeError(f"checkpoint: {value!r} of type {type(value).__name__} cannot be written as JSON")
    return value.item()
