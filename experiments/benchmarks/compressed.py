"""Loads the compressed network beside a record of an experiment in compression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from pyro_vd import compress
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.factory import build, import_factory
from pyro_vd.experiments.common.records import Record, read_record
from pyro_vd.experiments.common.training import network_factory

__all__ = ["find_factory", "load_compressed", "read_compressed_record"]


def read_compressed_record(path: Path) -> Record:
    """The record at ``path``.

    Raises:
        UserError: if there is none, or if it is not that of a compressed network.
    """
    record = read_record(path) if path.exists() else {}
    if "deployment" not in record:
        raise UserError(f"{path}: not a record of a compressed network; run its experiment again")
    return record


def find_factory(record: Record, factory: str | None = None) -> Callable[..., nn.Module]:
    """The constructor of the record's network, which takes the number of classes.

    Args:
        record: of a compressed network.
        factory: package.module:function, required for a network of the user. The record names it too, but code named
            in a file is not run without being asked for.

    Raises:
        UserError: if a factory is required, or if it is not that of the record.
    """
    name = record["network"]
    if factory is None and ":" in name:
        raise UserError(f"the record is of a network of your own; give --factory {name}")
    if factory is None:
        return network_factory(name)
    if factory != name:
        raise UserError(f"--factory {factory}: the record is of {name}")
    make = import_factory(factory)
    return lambda classes=10: build(make, factory)


def load_compressed(path: Path, make: Callable[..., nn.Module]) -> nn.Module:
    """The compressed network of the record at ``path``, in eval mode, with the layer sizes of the file.

    Args:
        path: of the record.
        make: from :func:`find_factory`.
    """
    return compress.load(path.with_suffix(".safetensors.xz"), make()).eval()
