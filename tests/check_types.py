"""Checks the types of the package under the names that it has when installed.

``python -m tests.check_types`` links ``pyro_vd`` and the folders beside it into a temporary folder, as the wheel has
them, and runs mypy there with the settings of pyproject.toml: in a checkout mypy does not find ``pyro_vd.guides``,
because ``pyro_vd`` extends its ``__path__`` at run time only. Paths in the output are those of the checkout. Further
arguments go to mypy, for example ``-p pyro_vd.guides``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pyro_vd"
SUBPACKAGES = ("guides", "models", "experiments")  # folders of the checkout that are packages inside pyro_vd
OTHERS = ("examples",)


def link_layout(folder: Path) -> None:
    """Links the sources into ``folder`` in the layout of the wheel, and what is checked besides."""
    package = folder / PACKAGE
    package.mkdir()
    for path in (ROOT / PACKAGE).iterdir():
        if path.name != "__pycache__":
            (package / path.name).symlink_to(path)
    for name in SUBPACKAGES:
        (package / name).symlink_to(ROOT / name)
    for name in OTHERS:
        (folder / name).symlink_to(ROOT / name)


def checkout_paths(output: str) -> str:
    """mypy's output with the paths of the checkout: ``pyro_vd/guides/x.py`` becomes ``guides/x.py``."""
    return re.sub(rf"^{PACKAGE}/(?=({'|'.join(SUBPACKAGES)})/)", "", output, flags=re.MULTILINE)


def check(arguments: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Runs mypy on everything, or as the arguments say; its standard output has the paths of the checkout."""
    packages = [word for name in (PACKAGE, *OTHERS) for word in ("-p", name)]
    command = [
        *(sys.executable, "-m", "mypy"),
        *("--config-file", str(ROOT / "pyproject.toml")),
        *("--cache-dir", str(ROOT / ".mypy_cache")),
        *(arguments or packages),
    ]
    with tempfile.TemporaryDirectory() as folder:
        link_layout(Path(folder))
        environment = {**os.environ, "MYPYPATH": folder}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    done.stdout = checkout_paths(done.stdout)
    return done


if __name__ == "__main__":
    result = check(sys.argv[1:])
    print(result.stdout, end="")
    print(result.stderr, end="", file=sys.stderr)
    raise SystemExit(result.returncode)
