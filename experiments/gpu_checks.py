"""What only a GPU can show: the tests of its engine, and the benchmarks of a training step on it.

``python -m experiments.gpu_checks`` runs tests/test_cuda.py and the benchmarks ``step`` and ``scaling``, and writes the
records of the benchmarks where the committed ones are. It has not run on a GPU yet.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pyro_vd.errors import UserError
from pyro_vd.experiments.common import cli

ROOT = Path(__file__).resolve().parents[1]
CHECKS = {
    "tests": ("pytest", "-q", "tests/test_cuda.py"),
    "step": ("experiments.benchmarks.step", "--device", "cuda", "--network", "lenet300", "lenet5", "cifar_cnn", "vgg"),
    "scaling": ("experiments.benchmarks.scaling", "--device", "cuda", "--seeds", "1", "2", "4", "8", "16", "32"),
}
"""Name -> module and arguments of ``python -m``, in order of value."""


@dataclass(frozen=True)
class Args:
    """Runs every check and says which ones failed."""

    check: tuple[str, ...] = tuple(CHECKS)
    """One or more of tests, step and scaling."""
    minutes: float = 30.0
    """Largest time of one check."""


def main(args: Args) -> None:
    for name in args.check:
        cli.nearest("check", name, CHECKS)
    if not 0 < args.minutes < float("inf"):
        raise UserError("--minutes must be above 0 and finite")
    cli.device_of("cuda")  # without a GPU, the tests would all be skipped
    failed = [name for name in args.check if not passes(CHECKS[name], args.minutes)]
    if failed:
        raise UserError(f"failed: {', '.join(failed)}")


def passes(command: tuple[str, ...], minutes: float) -> bool:
    """Runs ``python -m`` with these arguments; whether it ends in time without an error."""
    print(f"python -m {' '.join(command)}", flush=True)
    try:
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False, timeout=60 * minutes)
    except subprocess.TimeoutExpired:
        print(f"not done after {minutes:g} minutes")
        return False
    return done.returncode == 0


if __name__ == "__main__":
    cli.run(Args, main)
