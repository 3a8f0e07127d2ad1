"""What the numbers of a run depend on besides its spec: versions, revision, device, threads."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pyro
import torch

from pyro_vd.experiments.common.records import Record

__all__ = ["environment", "hardware"]


def environment(device: torch.device) -> Record:
    """The entries of a record about its environment."""
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


def _revision(folder: Path = Path(__file__).parent) -> str:
    """The commit, followed by ``+`` if Python files differ from it; "unknown" outside a checkout, and in an environment
    inside the repository of another project."""
    try:
        if not _git("ls-files", "--", "*.py", folder=folder):
            return "unknown"
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
