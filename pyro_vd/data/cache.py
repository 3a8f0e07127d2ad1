"""The folder of dataset files: where it is, and files that are found there or downloaded into it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pyro_vd.data.download import fetch
from pyro_vd.decompress import decompress
from pyro_vd.errors import DataError
from pyro_vd.files import write_atomically

__all__ = ["data_folder", "find_or_download"]


def data_folder(folder: str | Path | None = None) -> Path:
    """``folder`` if given, otherwise $PYRO_VD_DATA, otherwise pyro_vd in the user's cache folder.

    Raises:
        DataError: if none is given and the user has no home folder, as in some containers.
    """
    chosen = folder or os.environ.get("PYRO_VD_DATA")
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser()
        return (Path(cache) if cache else Path.home() / ".cache") / "pyro_vd"
    except RuntimeError:  # from pathlib
        raise DataError(
            "there is no home folder to look for datasets in; set PYRO_VD_DATA to their folder, or choose "
            "--dataset digits"
        ) from None


def find_or_download(
    name: str, path: Path, url: str, sha256: str, size: int, packed: bool = True, download: bool = True
) -> None:
    """Downloads and verifies a file if nothing is at ``path``. A file that is there is verified by its reader.

    Args:
        name: the dataset's name in messages.
        path: the file.
        url: where to download it.
        sha256: digest of the file, after it is decompressed if ``packed``.
        size: the largest number of bytes that the file has.
        packed: whether the download is a gzip or xz file that is decompressed first.
        download: whether it may be downloaded.

    Raises:
        DataError: if there is no file and no download, with the path and the digest.
    """
    if os.path.lexists(path):
        return
    if not download:
        raise _missing_file(name, path, sha256, "downloading is off")
    try:
        content = fetch(url, size + size // 1000 + 100)  # compression adds a little to incompressible data
        content = decompress(content, size) if packed else content
    except OSError as error:
        raise _missing_file(name, path, sha256, f"download failed: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _missing_file(name, path, sha256, f"the content of {url} has changed")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise _missing_file(name, path, sha256, f"the download cannot be written: {error.strerror or error}") from None


def _missing_file(name: str, path: Path, sha256: str, why: str) -> DataError:
    return DataError(
        f"{name}: no {path} ({why}); put the file with SHA-256 {sha256} there (IDX files uncompressed), set "
        "PYRO_VD_DATA to its data folder, or choose --dataset digits"
    )
