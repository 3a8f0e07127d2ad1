"""A network as C code, compiled into this process."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pyro_vd import compress
from pyro_vd.compress.c.values import ValuesName
from pyro_vd.errors import UserError

__all__ = ["FAST", "PORTABLE", "CForm", "compile_form", "name_compiler", "needs_compiler"]

PORTABLE, FAST = ("-O2",), ("-O3", "-march=native")
LOOP = """
#include "network.h"

void run_all(const float *inputs, float *outputs, int count) {
    static float scratch[NETWORK_SCRATCH];
    for (int i = 0; i < count; i++) {
        network_run(inputs + (long)i * NETWORK_INPUTS, outputs + (long)i * NETWORK_OUTPUTS, scratch);
    }
}
"""


@dataclass(frozen=True)
class CForm:
    """A network in C.

    Attributes:
        run: images to logits; a loop in C runs them one by one.
        code_bytes: machine code, compiled for size.
        table_bytes: constants.
        scratch_bytes: memory for intermediate results.
    """

    run: Callable[[Tensor], Tensor]
    code_bytes: int
    table_bytes: int
    scratch_bytes: int


def needs_compiler() -> None:
    """Refuses to run without gcc and its tools.

    Raises:
        UserError: if there is none.
    """
    if not shutil.which("gcc") or not shutil.which("size"):
        raise UserError("needs gcc and size on the path; install a C compiler, for example with apt install gcc")


def name_compiler() -> str:
    """gcc and its version."""
    asked = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return f"gcc {asked.stdout.strip()}"


def compile_form(net: nn.Module, images: Tensor, folder: Path, flags: tuple[str, ...], values: ValuesName) -> CForm:
    """Writes the network as C into the folder, compiles it with these flags, and loads it."""
    folder.mkdir()
    written = compress.to_c(net, images, folder / "network.c", values=values)
    (folder / "loop.c").write_text(LOOP)
    _compile(folder, *flags, "-shared", "-fPIC", "network.c", "loop.c", "-o", "network.so", "-lm")
    _compile(folder, "-Os", "-c", "network.c", "-o", "network.o")
    library = ctypes.CDLL(str(folder / "network.so"))
    sizes = {"table_bytes": written.table_bytes, "scratch_bytes": written.scratch_bytes}
    with torch.no_grad():
        outputs = net(images[:1]).numel()
    return CForm(_caller(library.run_all, outputs), _code_bytes(folder / "network.o"), **sizes)


def _compile(folder: Path, *arguments: str) -> None:
    subprocess.run(["gcc", "-std=c99", *arguments], cwd=folder, check=True)


def _caller(run_all: Callable[..., None], outputs: int) -> Callable[[Tensor], Tensor]:
    def run(images: Tensor) -> Tensor:
        given = np.ascontiguousarray(images.numpy(), dtype=np.float32)
        made = np.empty((len(images), outputs), np.float32)
        run_all(ctypes.c_void_p(given.ctypes.data), ctypes.c_void_p(made.ctypes.data), len(images))
        return torch.from_numpy(made)

    return run


def _code_bytes(path: Path) -> int:
    """Bytes of the instructions in an object file."""
    listed = subprocess.run(["size", "-A", path], capture_output=True, text=True, check=True).stdout
    sections = [line.split() for line in listed.splitlines()]
    return sum(int(words[1]) for words in sections if words and words[0].startswith(".text"))
