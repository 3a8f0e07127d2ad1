"""One writer per checkpoint: a lock file beside it. The operating system releases the lock if its holder dies."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyro_vd.errors import CheckpointInUseError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = ["hold_lock"]


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Holds the lock of the checkpoint ``path`` (no suffix), against other processes and threads.

    The lock is the file ``NAME.lock``, which holds the process id and is deleted afterwards. On POSIX systems the lock
    is ``flock``'s, so a file that a killed process leaves locks nothing. Elsewhere the file itself is the lock.

    Raises:
        CheckpointInUseError: if another process or thread holds it, naming the process.
        OSError: if the file cannot be made.
    """
    file = path.with_name(f"{path.name}.lock")
    descriptor = _open(file)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        if fcntl:
            file.unlink(missing_ok=True)  # before the release: after it, the file may be another's
            os.close(descriptor)
        else:
            os.close(descriptor)
            file.unlink(missing_ok=True)


def _open(file: Path) -> int:
    """Opens and locks the lock file. Returns its descriptor."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | (0 if fcntl else os.O_EXCL), 0o644)
        except FileExistsError:
            hint = f"; if that process has ended, delete {file}"
            raise CheckpointInUseError(_in_use(file) + hint) from None
        if not fcntl:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise CheckpointInUseError(_in_use(file)) from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(
                f"{file}: the file cannot be locked ({error.strerror}); make sure that no other process has this run",
                stacklevel=3,
            )
            return descriptor
        if _is_at(descriptor, file):
            return descriptor
        os.close(descriptor)  # its holder deleted it between the two calls


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _in_use(file: Path) -> str:
    number = file.read_bytes().decode(errors="replace")
    if number == str(os.getpid()):
        holder = "another fit of this process"
    else:
        holder = f"process {number}" if number.isdigit() else "another process"
    return f"{file.with_suffix('')}: in use by {holder}; wait until it ends, stop it, or choose another checkpoint"
