"""The compressed network that stands beside a record, as experiments in compression leave it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from experiments.common.records import Record, read_records
from experiments.common.training import network_named
from pyro_vd import compress
from pyro_vd.errors import UserError

__all__ = ["network_beside", "record_of_compressed"]

CLASSES = 10  # where the data do not say; layers take the sizes of the file


def record_of_compressed(path: Path) -> Record:
    """The record at ``path``.

    Raises:
        UserError: where there is none, or none of a compressed network.
    """
    record = next((r for r in read_records(path.parent) if r["file"] == path.name), None)
    if record is None or "shipped" not in record:
        raise UserError(f"{path}: no record of a compressed network; run its experiment again")
    return record


def network_beside(path: Path, record: Record, classes: int = CLASSES) -> nn.Module:
    """The compressed network of that record, in eval mode."""
    make = partial(network_named(record["network"]), classes)
    return compress.load(path.with_suffix(".safetensors.xz"), make()).eval()
