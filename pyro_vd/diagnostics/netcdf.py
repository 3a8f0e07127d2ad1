"""ArviZ data in netCDF files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from pyro_vd.diagnostics._arviz import import_arviz
from pyro_vd.errors import UserError

__all__ = ["load", "save"]


def save(data: Any, path: str | Path) -> None:
    """Writes ArviZ data as netCDF.

    Raises:
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / "data.nc"
        data.to_netcdf(str(unfinished), engine="h5netcdf")
        os.replace(unfinished, path)


def load(path: str | Path) -> Any:
    """ArviZ data from a file that :func:`save` wrote.

    Raises:
        UserError: if the file cannot be read.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; diagnostics.save writes one")
    try:
        return import_arviz().from_netcdf(str(path), engine="h5netcdf")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read as netCDF of ArviZ data ({error})") from None
