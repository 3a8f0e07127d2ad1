"""Command lines: typed arguments, one-line error messages and exit codes."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch
import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from pyro_vd.errors import CheckpointError, DataError, UserError, did_you_mean
from pyro_vd.inference.engine import EngineName
from pyro_vd.inference.progress import TolerantStream

__all__ = [
    "Setup",
    "begin",
    "check_counts",
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
class Setup:
    """Arguments of every experiment: where and how it trains. Subclasses add ``out`` with their own default."""

    engine: EngineName = "auto"
    """What runs the training steps; cudagraph needs a GPU."""
    device: str = "auto"
    """cpu, cuda, or auto: a GPU if there is one."""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice."""
    data: Path | None = None
    """Folder of the datasets; by default $PYRO_VD_DATA or the user's cache."""
    resume: bool = True
    """Keep finished runs and resume interrupted ones; --no-resume starts over."""


def begin(args: Setup) -> torch.device:
    """Checks the arguments, sets the number of threads, and returns the device.

    Raises:
        UserError: for an unavailable device, engine or number of threads, and for a folder that cannot be written; the
            message says what to choose.
    """
    device = device_of(args.device)
    check_engine(args.engine, device)
    set_threads(args.threads)
    check_folder(vars(args)["out"])
    return device


def check_engine(engine: str, device: torch.device) -> None:
    """Refuses an engine that the device does not support.

    Raises:
        UserError: naming the alternatives.
    """
    if engine == "cudagraph" and device.type != "cuda":
        raise UserError(f"--engine cudagraph is for a GPU, and this is {device}; use compiled or auto")


def check_counts(args: Setup, *names: str) -> None:
    """Refuses arguments of these names that are below 1; None is no number.

    Raises:
        UserError: naming the argument.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")


def set_threads(threads: int) -> None:
    """Sets PyTorch's number of CPU threads; 0 leaves it unchanged.

    Raises:
        UserError: for a negative number or one beyond ``THREADS_LIMIT``.
    """
    if not 0 <= threads <= THREADS_LIMIT:
        raise UserError(f"--threads must be at least 0 and at most {THREADS_LIMIT}; there are {os.cpu_count()} cores")
    if threads:
        torch.set_num_threads(threads)


def check_folder(folder: Path) -> None:
    """Checks before the training that the folder of the results can be created and written; creates nothing.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); choose another folder") from None
    with contextlib.suppress(OSError):  # another command may have started to use it
        for path in made:
            path.rmdir()


def run(arguments: type[Arguments], main: Callable[[Arguments], None], argv: list[str] | None = None) -> None:
    """Parses the command line into ``arguments``, calls ``main``, and ends the process on an error.

    A UserError prints one line and sets the exit code; Ctrl-C exits with 130 after a line that says how to resume. If
    standard output is closed, broken or full, ``main`` continues without output, and the exit code reports it.
    """
    with _tolerant_streams() as (out, error):
        code = _exit_code(arguments, main, argv)
        out.flush()
        error.flush()
        if out.failure and not isinstance(out.failure, BrokenPipeError):  # a closed pipe is no error: head closes it
            _say(f"error: standard output: {getattr(out.failure, 'strerror', None) or out.failure}; files are complete")
    if code or out.failure:
        raise SystemExit(code or UNREAD)


@contextlib.contextmanager
def _tolerant_streams() -> Iterator[tuple[TolerantStream, TolerantStream]]:
    """Replaces standard output and error by streams that do not raise."""
    # They are None if they were closed before Python started.
    out, error = (TolerantStream(stream or io.StringIO()) for stream in (sys.stdout, sys.stderr))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            yield out, error
    finally:
        for stream in (out, error):
            if stream.failure:  # Python flushes it at exit, and would report the failure again
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _exit_code(arguments: type[Arguments], main: Callable[[Arguments], None], argv: list[str] | None) -> int:
    try:
        _check_choices(arguments, sys.argv[1:] if argv is None else argv)
        parsed = tyro.cli(arguments, prog=_program(arguments), args=argv, registry=_help_registry(arguments))
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
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


def _program(arguments: type) -> str | None:
    """``python -m NAME`` if the arguments are those of the module that runs; None leaves the name of the process."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name}" if spec and arguments.__module__ == "__main__" else None


def _help_registry(arguments: type) -> ConstructorRegistry:
    """Makes the help of every argument one paragraph; tyro keeps the line breaks of an indented docstring."""
    spec = ConstructorRegistry.get_struct_spec(StructTypeInfo.make(arguments, tyro.MISSING_NONPROP, False))
    assert isinstance(spec, StructConstructorSpec)
    fields = tuple(replace(field, helptext=_one_paragraph(field.helptext)) for field in spec.fields)
    registry = ConstructorRegistry()
    registry.struct_rule(lambda info: replace(spec, fields=fields) if info.type is arguments else None)
    return registry


def _one_paragraph(text: str | Callable[[], str | None] | None) -> Callable[[], str]:
    return lambda: " ".join(((text() if callable(text) else text) or "").split())


def _check_choices(arguments: type, argv: Sequence[str]) -> None:
    """Refuses a value that is not one of its argument's choices, in one line; tyro takes several.

    Raises:
        UserError: naming the nearest choice.
    """
    choices = {name: _choices_of(hint) for name, hint in get_type_hints(arguments).items()}
    for word, following in zip(argv, [*argv, ""][1:], strict=True):
        flag, has_value, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        value = value if has_value else following
        if flag.startswith("--") and choices.get(name) and value not in ("", "None") and not value.startswith("--"):
            nearest(name, value, choices[name])


def _choices_of(hint: Any) -> tuple[str, ...]:
    """The choices of a Literal, or of one that may be None; empty for another type."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next((get_args(part) for part in get_args(hint) if get_origin(part) is Literal), ())


def _code_of(error: UserError) -> int:
    """The exit code of the error's class, or of the nearest base class that has one."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def _say(line: str) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)


def needs_onnx() -> None:
    """Checks before the training that ONNX can be written.

    Raises:
        UserError: if a package is missing; the message names it.
    """
    for package in ("onnxruntime", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"ONNX needs {package}; pip install 'pyro-vd[onnx]'")


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """Returns ``name`` if it is known.

    Raises:
        UserError: otherwise; the message has the nearest known name.
    """
    known = list(known)
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
    return name


def device_of(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU if there is one.

    Raises:
        UserError: for an unknown device, and for a GPU if there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; try cpu, cuda or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; try cpu, cuda or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: this PyTorch finds no GPU; use --device cpu")
    return device
