"""Checkpoints: tensors as safetensors, everything else as JSON, written atomically and verified when read.

A checkpoint ``NAME`` is the file ``NAME.json``. It holds a digest of its own content, the name of a tensor file in the
same folder, and the SHA-256 of that file. Replacing the JSON file is the commit point: until then the existing
checkpoint is valid. It is kept as the previous generation, ``NAME.json.previous`` with its own tensor file, which is
read if the newest is damaged. Nothing is unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pyro_vd.errors import CheckpointError
from pyro_vd.files import partial_path, process_is_alive, read_file, write_atomically, write_together

__all__ = ["as_json", "exists", "load", "make_ready", "metadata", "save"]

FORMAT = 2
JSON_LIMIT = 256 << 20  # bytes
TENSORS_LIMIT = 1 << 40


class _DamageError(CheckpointError):
    """Damage to one generation of a checkpoint. Another generation may still be valid."""


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Writes the checkpoint ``path`` (no suffix). An existing one stays valid until the new one is on disk.

    The new tensor file is read back and compared before the oldest generation is deleted.

    Args:
        path: ``folder/name``; makes ``folder/name.json`` and ``folder/name-<digest>.safetensors``.
        tensors: name -> tensor, on any device. A tied tensor may have several names.
        meta: JSON values, whose numbers must be finite. Scalars of NumPy and PyTorch become Python numbers.

    Raises:
        OSError: if writing fails, or other bytes are read back. The existing checkpoint is then unchanged.
        ValueError, TypeError: as :func:`as_json`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = safetensors.torch.save(_unshared(tensors))
    digest = hashlib.sha256(payload).hexdigest()
    file = path.with_name(f"{path.name}-{digest[:16]}.safetensors")
    write_atomically(file, payload)
    if hashlib.sha256(read_file(file, len(payload))).hexdigest() != digest:
        raise OSError(errno.EIO, "the bytes read back are not those that were written", str(file))
    body = {"format": FORMAT, "tensors": file.name, "sha256": digest, "meta": as_json(dict(meta))}
    content = json.dumps({**body, "digest": _digest(body)}, indent=1, allow_nan=False).encode()
    write_together({**_previous_content(path), _json(path): content})
    _clean_up(path)


def load(path: Path, limit: int = TENSORS_LIMIT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the checkpoint ``path`` (no suffix): its tensors and its meta.

    If it is damaged, the previous generation is read instead, with a warning.

    Args:
        path: as in :func:`save`.
        limit: largest size of a tensor file in bytes. A larger one is refused without being read in full.

    Raises:
        CheckpointError: if it is missing, truncated, altered, too large, not a regular file, a pickle, or of another
            format.
    """
    try:
        return _load(path, _json(path), limit)
    except _DamageError as damage:
        try:
            found = _load(path, _previous(path), limit)
        except CheckpointError:
            raise damage from None
        warnings.warn(f"{damage}; using the previous generation, {_previous(path).name}", stacklevel=2)
        return found


def metadata(path: Path) -> dict[str, Any]:
    """The meta of the checkpoint ``path`` (no suffix), or of its previous generation if that file is damaged.

    Tensor files are not read.

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
    """``meta`` as :func:`load` returns it: tuples become lists, scalars of NumPy and PyTorch become Python numbers.

    Raises:
        ValueError: for a number that is not finite.
        TypeError: for a value that JSON cannot hold.
    """
    return json.loads(json.dumps(meta, allow_nan=False, default=_number))


def exists(path: Path) -> bool:
    """Whether a checkpoint of this name exists, valid or not."""
    return _json(path).exists()


def make_ready(path: Path) -> None:
    """Makes the folder of the checkpoint ``path`` and checks that files can be written there.

    It creates and deletes an empty file with the longest name that a checkpoint uses.

    Raises:
        CheckpointError: if that fails, naming the reason.
    """
    probe = partial_path(path.with_name(f"{path.name}-{'0' * 16}.safetensors"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}); choose another checkpoint") from None


def _load(path: Path, file: Path, limit: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    for _ in range(100):
        content = _read_json(file)
        try:
            body = _checked(path, file, content)
            return _read_tensors(path.parent / body["tensors"], body["sha256"], file.name, limit), body["meta"]
        except CheckpointError:
            if _read_json(file) == content:
                raise
            # Another process replaced the checkpoint in the meantime: read again.
    raise CheckpointError(f"{file}: replaced 100 times while it was read; try again")


def _read_tensors(file: Path, sha256: str, source: str, limit: int) -> dict[str, Tensor]:
    try:
        payload = read_file(file, limit)
    except OSError as error:
        raise _DamageError(f"{file}: cannot be read ({error.strerror}), so {source} is incomplete") from None
    if hashlib.sha256(payload).hexdigest() != sha256:
        raise _DamageError(
            f"{file}: its SHA-256 is not the one in {source}; the file was truncated or altered and is not used"
        )
    try:
        return safetensors.torch.load(payload)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # from a bad header, dtype or shape
        raise _DamageError(f"{file}: not a safetensors file ({' '.join(str(error).split())})") from None


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, none of which share memory. A tied tensor is copied for each of its names."""
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


def _previous_content(path: Path) -> dict[Path, bytes]:
    """The file of the previous generation and its new content: the current JSON, or nothing if that is not valid."""
    if not exists(path):
        _previous(path).unlink(missing_ok=True)  # left by a checkpoint that was deleted
        return {}
    try:
        content = _read_json(_json(path))
        body = _checked(path, _json(path), content)
        _read_tensors(path.parent / body["tensors"], body["sha256"], "", TENSORS_LIMIT)
    except CheckpointError:
        return {}
    return {_previous(path): content}


def _clean_up(path: Path) -> None:
    """Deletes tensor files that no generation names, and partial files of processes that no longer run."""
    named = set()
    for file in (_json(path), _previous(path)):
        try:
            named.add(_checked(path, file, _read_json(file))["tensors"])
        except CheckpointError:  # there is no previous generation, or it is damaged
            continue
    own = re.escape(path.name) + r"(-[0-9a-f]{16}\.safetensors|\.json(\.previous)?)"
    partial = re.compile(own + r"\.(\d{1,9})\.\d+\.part")  # of a process and its thread
    for old in path.parent.iterdir():
        left = partial.fullmatch(old.name)
        if (left and not process_is_alive(int(left[3]))) or (_is_tensor_file(path, old.name) and old.name not in named):
            old.unlink(missing_ok=True)  # another process may have deleted it


def _is_tensor_file(path: Path, name: str) -> bool:
    """Whether ``name`` is a tensor file of the checkpoint ``path``, not of one whose name has the same beginning."""
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
        raise CheckpointError(
            f"{file}: a pickle or zip archive, which pyro_vd never loads, because it can run any code"
        )
    try:
        body: dict[str, Any] = json.loads(content)
        matches = body.pop("digest") == _digest(body)
        version = body["format"]
        whole = isinstance(body["meta"], dict) and isinstance(body["sha256"], str)
        named = _is_tensor_file(path, body["tensors"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise _DamageError(f"{file}: not a pyro_vd checkpoint, or truncated") from None
    if not matches:
        raise _DamageError(f"{file}: its digest does not match its content; the file was altered and is not used")
    if version != FORMAT:
        repair = "update pyro_vd" if isinstance(version, int) and version > FORMAT else "choose another checkpoint"
        raise CheckpointError(f"{file}: format {version}, this version reads format {FORMAT} only; {repair}")
    if not whole or not named:
        what = (
            f"names {body['tensors']!r}, which is not one of its own tensor files"
            if whole
            else "its meta is not an object"
        )
        raise CheckpointError(f"{file}: {what}")
    return body


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _number(value: Any) -> Any:
    """A NumPy or PyTorch scalar as a Python number."""
    if not hasattr(value, "item"):
        raise TypeError(f"checkpoint: {value!r} of type {type(value).__name__} cannot be written as JSON")
    return value.item()
