"""Records: one JSON per run, holding the arguments, the circumstances and the numbers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyro
import torch

from pyro_vd.errors import UserError
from pyro_vd.files import read_file, write_atomically

__all__ = [
    "Record", "begun", "circumstances", "course_of", "differing", "files_of", "finished", "place", "read_record",
    "read_records", "slug", "start_over", "write_record",
]  # fmt: skip

Record = dict[str, Any]
BESIDE = (".safetensors.xz", ".onnx", ".npz")  # of the files of a run that are no pictures, which are drawn over
REQUIRED = (
    "experiment", "protocol", "dataset", "data_sha256", "network", "scheme", "prior", "seed", "epochs", "batch_size",
    "device", "torch", "pyro", "revision", "seconds", "test_error", "test_error_unpruned", "test_error_mc",
    "mc_samples", "sparsity_per_layer", "weights", "nonzero", "compression", "threshold", "diverged",
)  # fmt: skip
DIGEST = "digest"
SIZE_LIMIT = 64 << 20  # bytes
NAME_LIMIT = 160  # bytes; file systems allow 255, and checkpoints and pictures add to a name
_NUMBER, _TEXT, _COUNT, _NONE = (int, float), (str,), (int,), type(None)
# Of what tables are made of, wherever it is required.
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("experiment", "protocol", "dataset", "network", "scheme", "row", "column", "device", "torch"), _TEXT
    ),
    **dict.fromkeys(("seed", "batch_size", "mc_samples", "weights"), _COUNT),
    **dict.fromkeys(("seconds", "test_error", "test_error_mc", "test_error_best", "compression"), (*_NUMBER, _NONE)),
    "sparsity_per_layer": (dict,),
    "diverged": (bool, str),
}


def circumstances(device: torch.device) -> Record:
    """What a number depends on besides the arguments: versions, revision, device, threads."""
    return {
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "python": platform.python_version(),
        "revision": _revision(),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }


def place(record: Record) -> str:
    """Where a benchmark's record was made, in a line."""
    threads = record["threads"]
    return f"{record['device']}, {threads} thread{'s' * (threads > 1)}, torch {record['torch']}"


def write_record(path: Path, record: Record) -> None:
    """Writes the record with its digest or leaves the old one; a number that is not finite has to be given as None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = json.loads(json.dumps(record, allow_nan=False))  # as it will be read: lists, and keys of text
    text = json.dumps({**body, DIGEST: _digest(body)}, indent=1, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_records(folder: Path, required: Iterable[str] = REQUIRED) -> list[Record]:
    """All records of a folder, by file name.

    Raises:
        UserError: for a file that is no record, naming it and what it lacks.
    """
    return [read_record(path, required) for path in sorted(folder.glob("*.json"))]


def read_record(path: Path, required: Iterable[str] = REQUIRED) -> Record:
    """The record at ``path``, which exists, with the file's name.

    Raises:
        UserError: for a file that is no record, naming it and what it lacks, and for one that was altered; what is
            older than digests has none.
    """
    record = _read_json(path)
    digest = record.pop(DIGEST, None)
    if digest is not None and digest != _digest(record):
        raise UserError(f"{path}: its digest does not match its content; altered, run its experiment again")
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


def _read_json(path: Path) -> Record:
    """Strict JSON: no NaN, no number beyond a float's range, no name twice.

    Raises:
        UserError: for anything else, naming the file.
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
        raise UserError(f"{path}: JSON, but no record; delete it or run its experiment again")
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
        raise ValueError("a name twice")
    return record


def _digest(body: Record) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def begun(
    out: Path,
    name: str,
    settings: Record,
    resume: bool,
    defaults: Record | None = None,
    required: Iterable[str] = REQUIRED,
    trained: tuple[str, Record] | None = None,
) -> tuple[Record | None, Path, Path]:
    """The record of the same run done before, None where it is still to do; its file, and where its checkpoints go.

    Without ``resume`` it is still to do, and what an earlier one left is deleted.

    Args:
        trained: name and settings of the training alone, where more than one run can go on from it.

    Raises:
        UserError: where the record is of a run with other settings.
    """
    path, checkpoint = files_of(out, name, settings)
    if trained:
        _, checkpoint = files_of(out, *trained)
    if not resume:
        start_over(path, checkpoint)
    return finished(path, settings, defaults or {}, required) if path.exists() else None, path, checkpoint


def course_of(history: list[dict[str, float]]) -> Record:
    """How training went: how long it took, and its numbers epoch by epoch."""
    return {"seconds": sum(row["seconds"] for row in history), "history": history}


def finished(path: Path, settings: Record, defaults: Record, required: Iterable[str] = REQUIRED) -> Record:
    """The record at ``path`` of the same run done before.

    Raises:
        UserError: where it is the record of a run with other settings.
    """
    record = read_record(path, required)
    different = differing(record, settings, defaults)
    if different:
        raise UserError(f"{path} holds a run with another {', '.join(different)}; choose another --out or --no-resume")
    print(f"{path}: finished before, kept")
    return record


def differing(record: Record, settings: Record, defaults: Record) -> list[str]:
    """The settings in which a record differs; what it lacks, being older, had that argument's default."""
    return [key for key, value in settings.items() if record.get(key, defaults.get(key)) != value]


def files_of(out: Path, name: str, settings: Record) -> tuple[Path, Path]:
    """Where a run's record and its checkpoints go.

    A record of other settings is refused by what it says; a checkpoint cannot say it all, hence the digest in its name.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return out / f"{name}.json", out / "checkpoints" / f"{name}-{digest}"


def slug(name: str) -> str:
    """The name as part of a file's, shortened to NAME_LIMIT bytes by a digest of the rest."""
    safe = "".join(c if c.isalnum() or c in "=.-" else "_" for c in name)
    if len(safe.encode()) <= NAME_LIMIT:
        return safe
    digest = hashlib.sha256(safe.encode()).hexdigest()[:8]
    return f"{safe.encode()[: NAME_LIMIT - 9].decode(errors='ignore')}-{digest}"


def start_over(path: Path, checkpoint: Path) -> None:
    """Deletes what an earlier run of the same name left: its record, what lies beside it, and its checkpoints."""
    beside = [path.with_suffix(suffix) for suffix in BESIDE]
    for old in (path, *beside, *checkpoint.parent.glob(f"{checkpoint.name}[.-]*")):
        old.unlink(missing_ok=True)


def _revision(folder: Path = Path(__file__).parent) -> str:
    """The commit, with ``+`` where its code differs; "unknown" outside a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD", folder=folder)
        changed = _git("status", "--porcelain", "--untracked-files=all", "--", ":/*.py", folder=folder)
        return commit + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str, folder: Path) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({os.cpu_count()} cores, {_processor()})"


def _processor() -> str:
    """The model, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
