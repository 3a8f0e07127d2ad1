"""Loads the compressed network beside the record of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from pyro_vd import compress
from pyro_vd.errors import UserError
from pyro_vd.experiments.common.factory import build, import_factory
from pyro_vd.experiments.common.runner import network_maker
from pyro_vd.experiments.common.store import Run, Store

__all__ = ["find_factory", "load_compressed", "read_run"]


def read_run(path: Path) -> Run:
    """The run whose record is at ``path``.

    Raises:
        UserError: if there is none, or if it is not that of a compressed network.
    """
    run = Store(path.parent).read(path)
    if "deployment" not in run.record:
        raise UserError(f"{path}: not a record of a compressed network")
    return run


def find_factory(run: Run, factory: str | None = None) -> Callable[..., nn.Module]:
    """The constructor of the run's network, which takes the number of classes.

    Args:
        run: of a compressed network.
        factory: package.module:function, required for a network of the user. The spec names it too, but code named
            in a file is not run without being asked for.

    Raises:
        UserError: if a factory is required, or if it is not that of the spec.
    """
    name = run.spec.network
    if factory is None and ":" in name:
        raise UserError(f"the record is of a network of your own; give --factory {name}")
    if factory is None:
        return network_maker(run.spec)
    if factory != name:
        raise UserError(f"--factory {factory}: the record is of {name}")
    make = import_factory(factory)
    return lambda classes=10: build(make, factory)


def load_compressed(run: Run, make: Callable[..., nn.Module]) -> nn.Module:
    """The compressed network of the run, in eval mode, with the layer sizes of the file.

    Args:
        make: from :func:`find_factory`.
    """
    return compress.load(run.beside(".safetensors.xz"), make()).eval()
