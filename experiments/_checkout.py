"""``python -m experiments.NAME`` in a checkout, without a second module object for any file of the package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

__all__ = ["alias_package"]

ALIAS, PACKAGE = "experiments", "pyro_vd.experiments"


def alias_package() -> None:
    """Makes ``experiments`` and its submodules names of the modules of ``pyro_vd.experiments``."""
    sys.modules[ALIAS] = sys.modules[PACKAGE]
    sys.meta_path.insert(0, AliasFinder())


class AliasFinder(MetaPathFinder):
    """Finds ``experiments.x`` where ``pyro_vd.experiments.x`` is."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(f"{ALIAS}."):
            return None
        real = importlib.util.find_spec(PACKAGE + name.removeprefix(ALIAS))
        if real is None:
            return None
        spec = ModuleSpec(name, AliasLoader(real), origin=real.origin)
        spec.submodule_search_locations = real.submodule_search_locations
        return spec


class AliasLoader(InspectLoader):
    """Gives the module of another spec, and its code to ``python -m``, which runs the code as ``__main__``."""

    def __init__(self, real: ModuleSpec):
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return importlib.import_module(self.real.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.real  # the import system has put the alias's spec there

    def get_code(self, name: str) -> CodeType | None:
        assert isinstance(self.real.loader, InspectLoader)
        return self.real.loader.get_code(self.real.name)

    def get_source(self, name: str) -> str | None:
        assert isinstance(self.real.loader, InspectLoader)
        return self.real.loader.get_source(self.real.name)
