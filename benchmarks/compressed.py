"""The compressed network that stands beside a record, as experiments in compression leave it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from experiments.common.records import Record, read_record
from experiments.common.training import network_named
from pyro_vd import compress
from pyro_vd.errors import UserError

__all__ = ["network_beside", "record_of_compressed"]


def record_of_compressed(path: Path) -> Record:
    """The record at ``path``.

    Raises:
        UserError: where there is none, or none of a compressed network.
    """
    record = read_record(path) if path.exists() else {}
    if "shipped" not in record:
        raise UserError(f"{path}: no record of a compressed network; run its experiment again")
    return record


def network_beside(path: Path, record: Record) -> nn.Module:
    """The compressed network of that record, in eval mode; its layers take the sizes of the file."""
    return compress.load(path.with_suffix(".safetensors.xz"), network_named(record["network"])()).eval()
