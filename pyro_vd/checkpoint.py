"""Checkpoints: tensors as safetensors, everything else as JSON, written atomically and verified when read.

A checkpoint ``NAME`` is the file ``NAME.json``, which names a tensor file beside it and holds its SHA-256, and a digest
of itself. Replacing the JSON is the commit point: until then the previous checkpoint is whole, and after it the
previous tensor file goes. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pyro_vd.errors import CheckpointError
from pyro_vd.files import write_atomically

__all__ = ["exists", "load", "save"]

FORMAT = 1


def save(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Writes the checkpoint ``path`` (no suffix); the one that was there stays valid until this one is on disk.

    Args:
        path: ``folder/name``; makes ``folder/name.json`` and ``folder/name-<digest>.safetensors``.
        tensors: named tensors, any device, no two sharing memory.
        meta: JSON values, finite numbers only.

    Raises:
        OSError: when the disk refuses; the previous checkpoint is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(payload).hexdigest()
    file = path.with_name(f"{path.name}-{digest[:16]}.safetensors")
    write_atomically(file, payload)
    body = {"format": FORMAT, "tensors": file.name, "sha256": digest, "meta": dict(meta)}
    write_atomically(_json(path), json.dumps({**body, "digest": _digest(body)}, indent=1, allow_nan=False).encode())
    for old in path.parent.iterdir():
        if old != file and _is_tensor_file(path, old.name):
            old.unlink(missing_ok=True)  # another process that saves the same may have been here


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the meta of the checkpoint ``path`` (no suffix).

    Raises:
        CheckpointError: when it is missing, truncated, altered in any bit, a pickle, or of a newer format.
    """
    body = _read_json(path)
    file = path.parent / body["tensors"]
    try:
        payload = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}); the checkpoint is incomplete") from None
    if hashlib.sha256(payload).hexdigest() != body["sha256"]:
        raise CheckpointError(f"{file}: SHA-256 differs from {_json(path).name}'s; truncated or altered, not used")
    try:
        return safetensors.torch.load(payload), body["meta"]
    except SafetensorError as error:
        raise CheckpointError(f"{file}: not a safetensors file ({error})") from None


def exists(path: Path) -> bool:
    """Whether there is a checkpoint of this name, valid or not."""
    return _json(path).exists()


def _json(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _is_tensor_file(path: Path, name: str) -> bool:
    """Whether ``name`` is a tensor file of the checkpoint ``path`` and not, say, of one whose name begins the same."""
    return re.fullmatch(re.escape(path.name) + r"-[0-9a-f]{16}\.safetensors", name) is not None


def _read_json(checkpoint: Path) -> dict[str, Any]:
    path = _json(checkpoint)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if content[:1] in (b"\x80", b"P"):
        raise CheckpointError(f"{path}: a pickle or zip archive, which pyro_vd never loads; it could run any code")
    try:
        body = json.loads(content)
        matches = body.pop("digest") == _digest(body)
        body["format"], body["sha256"], body["meta"]
        named = _is_tensor_file(checkpoint, body["tensors"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: not a pyro_vd checkpoint, or truncated") from None
    if not matches:
        raise CheckpointError(f"{path}: its digest does not match its content; altered, not used")
    if not named:
        raise CheckpointError(f"{path}: names {body['tensors']!r}, which is not one of its own tensor files")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {body['format']}, this version reads {FORMAT}; update pyro_vd")
    return body


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()
