"""Command lines: typed arguments in, one line and an exit code out when something is wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

import torch
import tyro

from pyro_vd.errors import CheckpointError, DataError, UserError, did_you_mean
from pyro_vd.inference.engine import Mode
from pyro_vd.inference.progress import TolerantStream

__all__ = [
    "Training",
    "begin",
    "check_engine",
    "check_folder",
    "device_of",
    "nearest",
    "needs_onnx",
    "run",
    "set_threads",
]

Arguments = TypeVar("Arguments")
UNREAD, SYSTEM, INTERRUPTED = 1, 6, 130  # exit codes
EXIT_CODES = {UserError: 2, CheckpointError: 5, DataError: 7}
THREADS_LIMIT = max(64, os.cpu_count() or 1)  # many thousands end the process without a word
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # in what PyTorch raises as RuntimeError


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where and how an experiment trains: what all of them ask for, beside ``out``, which each has by its own name."""

    engine: str = "auto"
    """auto, eager, compiled or cudagraph (on a GPU)."""
    device: str = "auto"
    """cpu, cuda, or auto: a GPU where there is one."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""
    data: Path | None = None
    """Where datasets are, instead of $PYRO_VD_DATA or the user's cache."""
    resume: bool = True
    """Keep finished runs and go on with interrupted ones; --no-resume starts over."""


def begin(args: Training) -> torch.device:
    """Sets the threads and gives the device.

    Raises:
        UserError: for a device, an engine or a number of threads that there is not, with what to choose, and for a
            folder that cannot be written.
    """
    device = device_of(args.device)
    check_engine(args.engine, device)
    set_threads(args.threads)
    check_folder(vars(args)["out"])
    return device


def check_engine(engine: str, device: torch.device) -> None:
    """Refuses an engine that there is not, there."""
    nearest("engine", engine, get_args(Mode))
    if engine == "cudagraph" and device.type != "cuda":
        raise UserError(f"--engine cudagraph is for a GPU, and this is {device}; use compiled or auto")


def set_threads(threads: int) -> None:
    """Of PyTorch on the CPU; 0 leaves its choice.

    Raises:
        UserError: for a number that the machine cannot have.
    """
    if not 0 <= threads <= THREADS_LIMIT:
        raise UserError(f"--threads has to be at least 0 and at most {THREADS_LIMIT}; there are {os.cpu_count()} cores")
    if threads:
        torch.set_num_threads(threads)


def check_folder(folder: Path) -> None:
    """Sees that the folder of the results can be made and written, before the hours that they take; leaves none.

    Raises:
        UserError: where it cannot.
    """
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); choose another folder") from None
    with contextlib.suppress(OSError):  # another command may have begun to use it
        for path in made:
            path.rmdir()


def run(arguments: type[Arguments], main: Callable[[Arguments], None], argv: list[str] | None = None) -> None:
    """Parses the command line into ``arguments``, calls ``main``, and ends the process where something is wrong.

    A UserError ends with its own exit code and its one line, Ctrl-C with 130 and the line that says how to resume. A
    terminal that is closed, broken or full costs no run: ``main`` goes on in silence, and the exit code tells.
    """
    with _tolerant_streams() as (out, error):
        code = _exit_code(arguments, main, argv)
        out.flush()
        error.flush()
        if out.failure and not isinstance(out.failure, BrokenPipeError):  # whoever reads, head for one, has had enough
            _say(f"error: standard output: {getattr(out.failure, 'strerror', None) or out.failure}; files are complete")
    if code or out.failure:
        raise SystemExit(code or UNREAD)


@contextlib.contextmanager
def _tolerant_streams() -> Iterator[tuple[TolerantStream, TolerantStream]]:
    """Standard output and error, inside, as streams that end nothing."""
    # There are none where they were closed before Python began.
    out, error = (TolerantStream(stream or io.StringIO()) for stream in (sys.stdout, sys.stderr))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            yield out, error
    finally:
        for stream in (out, error):
            if stream.failure:  # nor shall Python complain as it ends
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _exit_code(arguments: type[Arguments], main: Callable[[Arguments], None], argv: list[str] | None) -> int:
    parsed = tyro.cli(arguments, args=argv)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        main(parsed)
    except UserError as error:
        _say(f"error: {error}")
        return _code_of(error)
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        _say(f"error: {error.filename or ''}: {error.strerror or error}")
        return SYSTEM
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(part in str(error) for part in OUT_OF_MEMORY):
            raise
        what = str(error).partition("\n")[0] or "MemoryError"
        _say(f"error: out of memory ({what}); choose a smaller network, --batch-size or dataset")
        return SYSTEM
    return 0


def _code_of(error: UserError) -> int:
    """The exit code of the error's class, or of the nearest base class that has one."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def _say(line: str) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)


def needs_onnx() -> None:
    """Before the hours that come before its first use.

    Raises:
        UserError: where a package of it is missing, naming it.
    """
    for package in ("onnxruntime", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"ONNX needs {package}; pip install 'pyro-vd[onnx]'")


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """``name`` if it is known.

    Raises:
        UserError: otherwise, with a known name where one is near.
    """
    known = list(known)
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
    return name


def device_of(name: str) -> torch.device:
    """``auto`` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; try cpu, cuda or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: this PyTorch finds no GPU; use --device cpu")
    return device
