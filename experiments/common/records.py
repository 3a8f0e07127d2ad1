"""Records: one JSON file per run, with its arguments, its environment and its numbers."""

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
    "Record",
    "delete_run",
    "environment",
    "hardware",
    "load_matching",
    "load_or_start",
    "mismatches",
    "read_record",
    "read_records",
    "run_paths",
    "slug",
    "training_log",
    "write_record",
]  # fmt: skip

Record = dict[str, Any]
ARTIFACT_SUFFIXES = (".safetensors.xz", ".onnx", ".npz")  # files of a run beside its record, except pictures
REQUIRED = (
    "experiment", "protocol", "dataset", "data_sha256", "network", "scheme", "prior", "seed", "epochs", "batch_size",
    "device", "torch", "pyro", "revision", "seconds", "test_error", "test_error_unpruned", "test_error_mc",
    "num_samples", "sparsity_per_layer", "weights", "nonzero", "compression", "threshold", "diverged",
)  # fmt: skip
DIGEST = "digest"
SIZE_LIMIT = 64 << 20  # bytes
NAME_LIMIT = 160  # bytes; file systems allow 255, and checkpoints and pictures append to a name
MIGRATED_KEYS = {
    "calibration_error": "expected_calibration_error",
    "doubt": "uncertainty",
    "mc_samples": "num_samples",
    "outsiders": "ood_datasets",
    "parametrisation": "parametrization",
    "precision": "matmul_dtype",
    "rejected": "risk_coverage",
    "shipped": "deployment",
    "turned": "rotated",
}
"""Keys of older records -> their present names."""
MIGRATED_PRIORS = {"BoundedLogUniform": "TruncatedLogUniform"}
"""Names of priors in older records -> their present names."""
_NUMBER, _TEXT, _COUNT, _NONE = (int, float), (str,), (int,), type(None)
# Types of the entries that tables read, checked if the entry is required.
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("experiment", "protocol", "dataset", "network", "scheme", "row", "column", "device", "torch"), _TEXT
    ),
    **dict.fromkeys(("seed", "batch_size", "num_samples", "weights"), _COUNT),
    **dict.fromkeys(("seconds", "test_error", "test_error_mc", "test_error_best", "compression"), (*_NUMBER, _NONE)),
    "sparsity_per_layer": (dict,),
    "diverged": (bool, str),
}


def environment(device: torch.device) -> Record:
    """What the numbers of a run depend on besides its arguments: versions, revision, device, threads."""
    return {
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "python": platform.python_version(),
        "revision": _revision(),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }


def hardware(record: Record) -> str:
    """One line that says on what hardware a benchmark ran."""
    threads = record["threads"]
    return f"{record['device']}, {threads} thread{'s' * (threads > 1)}, torch {record['torch']}"


def write_record(path: Path, record: Record) -> None:
    """Writes the record with its digest, atomically.

    Raises:
        ValueError: for a number that is not finite; write None instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    body = json.loads(json.dumps(record, allow_nan=False))  # as it will be read: lists for tuples, and text for keys
    text = json.dumps({**body, DIGEST: _digest(body)}, indent=1, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_records(folder: Path, required: Iterable[str] = REQUIRED) -> list[Record]:
    """All records of a folder, by file name.

    Raises:
        UserError: for a file that is not a record; the message names the file and what it lacks.
    """
    return [read_record(path, required) for path in sorted(folder.glob("*.json"))]


def read_record(path: Path, required: Iterable[str] = REQUIRED) -> Record:
    """The record at ``path``, which must exist, and the file's name under ``file``.

    The keys of an older record are renamed by ``MIGRATED_KEYS``, after its digest has been checked. A record that is
    older than digests has none and is accepted.

    Raises:
        UserError: for a file that is not a record or has been altered; the message names the file and what it lacks.
    """
    record = _read_json(path)
    digest = record.pop(DIGEST, None)
    if digest is not None and digest != _digest(record):
        raise UserError(f"{path}: its digest does not match its content; altered, run its experiment again")
    record = _migrate(record)
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


def _migrate(record: Record) -> Record:
    """The record under the present names of its keys, in nested dictionaries too, and of what they hold."""
    migrated: Record = {
        MIGRATED_KEYS.get(key, key): _migrate(value) if isinstance(value, dict) else value
        for key, value in record.items()
    }
    if isinstance(migrated.get("protocol"), str):  # it names the arguments that a variant changes
        migrated["protocol"] = migrated["protocol"].replace("parametrisation=", "parametrization=")
    if isinstance(migrated.get("prior"), str):
        migrated["prior"] = MIGRATED_PRIORS.get(migrated["prior"], migrated["prior"])
    return migrated


def _read_json(path: Path) -> Record:
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


def _digest(body: Record) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def load_or_start(
    out: Path,
    name: str,
    settings: Record,
    resume: bool,
    defaults: Record | None = None,
    required: Iterable[str] = REQUIRED,
    trained: tuple[str, Record] | None = None,
) -> tuple[Record | None, Path, Path]:
    """Loads the record of a finished run, or prepares to start the run.

    Args:
        out: folder of the records.
        name: stem of the record's file.
        settings: what identifies the run; a record with other settings is refused.
        resume: if False, deletes what an earlier run of this name left.
        defaults: values of settings that an older record lacks.
        required: keys that a record must have.
        trained: name and settings of the training alone, if several runs can continue from the same checkpoint.

    Returns:
        the record, or None if the run is still to do; the record's path; the path that checkpoints begin with.

    Raises:
        UserError: if the record is that of a run with other settings.
    """
    path, checkpoint = run_paths(out, name, settings)
    if trained:
        _, checkpoint = run_paths(out, *trained)
    if not resume:
        delete_run(path, checkpoint)
    return load_matching(path, settings, defaults or {}, required) if path.exists() else None, path, checkpoint


def training_log(history: list[dict[str, float]]) -> Record:
    """The part of a record about training: seconds in total, and the history, one dictionary per epoch."""
    return {"seconds": sum(row["seconds"] for row in history), "history": history}


def load_matching(path: Path, settings: Record, defaults: Record, required: Iterable[str] = REQUIRED) -> Record:
    """Loads the record at ``path``, which must be that of a run with the same settings.

    Raises:
        UserError: if its settings differ; the message names them.
    """
    record = read_record(path, required)
    different = mismatches(record, settings, defaults)
    if different:
        raise UserError(f"{path} holds a run with another {', '.join(different)}; choose another --out or --no-resume")
    print(f"{path}: already finished")
    return record


def mismatches(record: Record, settings: Record, defaults: Record) -> list[str]:
    """Names of the settings in which a record differs; a setting that an older record lacks had its default."""
    return [key for key, value in settings.items() if record.get(key, defaults.get(key)) != value]


def run_paths(out: Path, name: str, settings: Record) -> tuple[Path, Path]:
    """Paths of a run's record and of its checkpoints.

    A record holds all settings, so it can be compared. A checkpoint does not, so its name has a digest of them.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return out / f"{name}.json", out / "checkpoints" / f"{name}-{digest}"


def slug(name: str) -> str:
    """The name in characters that are safe in a file name; beyond ``NAME_LIMIT`` bytes, a digest replaces the rest."""
    safe = "".join(c if c.isalnum() or c in "=.-" else "_" for c in name)
    if len(safe.encode()) <= NAME_LIMIT:
        return safe
    digest = hashlib.sha256(safe.encode()).hexdigest()[:8]
    return f"{safe.encode()[: NAME_LIMIT - 9].decode(errors='ignore')}-{digest}"


def delete_run(path: Path, checkpoint: Path) -> None:
    """Deletes what an earlier run of the same name left: its record, the files beside it, and its checkpoints."""
    artifacts = [path.with_suffix(suffix) for suffix in ARTIFACT_SUFFIXES]
    for old in (path, *artifacts, *checkpoint.parent.glob(f"{checkpoint.name}[.-]*")):
        old.unlink(missing_ok=True)


def _revision(folder: Path = Path(__file__).parent) -> str:
    """The commit, followed by ``+`` if Python files differ from it; "unknown" outside a checkout."""
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
    """The processor's model name if the system provides it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
