"""Command lines: typed arguments in, one line and an exit code out when something is wrong."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

import torch
import tyro

from pyro_vd.engine import Mode
from pyro_vd.errors import UserError

__all__ = ["Training", "begin", "device_of", "nearest", "needs_onnx", "run"]

Arguments = TypeVar("Arguments")
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where and how an experiment trains: what all of them ask for."""

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
        UserError: for a device, an engine or a number of threads that there is not, with what to choose.
    """
    device = device_of(args.device)
    nearest("engine", args.engine, get_args(Mode))
    if args.engine == "cudagraph" and device.type != "cuda":
        raise UserError(f"--engine cudagraph is for a GPU, and this is {device}; use compiled or auto")
    if args.threads < 0:
        raise UserError("--threads has to be at least 0")
    if args.threads:
        torch.set_num_threads(args.threads)
    return device


def run(arguments: type[Arguments], main: Callable[[Arguments], None], argv: list[str] | None = None) -> None:
    """Parses the command line into ``arguments``, calls ``main``, and ends the process.

    A UserError ends with its own exit code and its one line, Ctrl-C with 130 and the line that says how to resume.
    """
    parsed = tyro.cli(arguments, args=argv)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        main(parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # whoever reads, head for one, has had enough; nor shall Python complain as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(6) from None


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
        UserError: otherwise, with the nearest known name.
    """
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(f"unknown {kind} {name!r}; did you mean {near!r}? (known: {', '.join(known)})")
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
