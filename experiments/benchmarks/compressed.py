"""The compressed network that stands beside a record, as experiments in compression leave it."""

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
        UserError: where there is none, or none of a compressed network.
    """
    record = read_record(path) if path.exists() else {}
    if "deployment" not in record:
        raise UserError(f"{path}: no record of a compressed network; run its experiment again")
    return record


def find_factory(record: Record, factory: str | None = None) -> Callable[..., nn.Module]:
    """What makes the network that the record is of, from a number of classes, which a network of one's own knows.

    Args:
        factory: package.module:function, for a network of one's own. A record names it too, but code that a file
            names is not run unasked.

    Raises:
        UserError: where a factory is needed, or another one than that.
    """
    name = record["network"]
    if factory is None and ":" in name:
        raise UserError(f"a record of a network of your own: give --factory {name}")
    if factory is None:
        return network_factory(name)
    if factory != name:
        raise UserError(f"--factory {factory}: the record is of {name}")
    make = import_factory(factory)
    return lambda classes=10: build(make, factory)


def load_compressed(path: Path, make: Callable[..., nn.Module]) -> nn.Module:
    """The compressed network of the record at ``path``, in eval mode; its layers take the sizes of the file.

    Args:
        make: of :func:`maker_of`.
    """
    return compress.load(path.with_suffix(".safetensors.xz"), make()).eval()
