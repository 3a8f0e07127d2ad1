"""Files: reads regular files of limited size, and replaces files atomically."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

__all__ = ["partial_path", "process_is_alive", "read_file", "write_atomically", "write_together"]


def read_file(path: Path, limit: int) -> bytes:
    """Content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: if the file cannot be read, is not a regular file (a pipe or a device may never end), or is larger;
            ``strerror`` says which and ``filename`` names it.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            # read(limit) would allocate limit bytes, and st_size may be wrong for special files.
            content = file.read(min(limit, max(status.st_size, 1 << 16)) + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces ``path`` by ``content``, or leaves it unchanged if writing fails or the process dies.

    Raises:
        OSError: if writing fails, naming the file.
    """
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Replaces files of one folder that belong together. If writing one of them fails, none is replaced.

    Two processes or threads may write the same file. Its content is that of the last one to finish.

    Args:
        files: path -> content, all in one folder.

    Raises:
        OSError: if writing fails, naming the file.
    """
    partials = {path: partial_path(path) for path in files}
    try:
        for path, content in files.items():
            _write(path, partials[path], content)
        for path in files:
            if path.is_dir():  # replacing it would fail after others have been replaced
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        for path, partial in partials.items():
            partial.replace(path)
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(next(iter(files)).parent)


def partial_path(path: Path) -> Path:
    """Where this thread writes the new content of ``path``, before it replaces the old one."""
    return path.with_name(f"{path.name}.{os.getpid()}.{threading.get_native_id()}.part")


def process_is_alive(number: int) -> bool:
    """Whether this machine runs a process with this number. True if the system cannot tell."""
    if os.name != "posix":  # on Windows, os.kill would end the process
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _write(path: Path, partial: Path, content: bytes) -> None:
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)  # Python sets it only if open fails
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # a rename is durable only after its folder is; other systems cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
