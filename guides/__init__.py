"""Dropout schemes, one per file. SCHEMES maps a scheme's name to its module, which holds ``prior`` and ``Guide``."""

from types import ModuleType

from guides import hierarchical as hierarchical
from guides import none as none
from guides import sparse as sparse

SCHEMES: dict[str, ModuleType] = {"none": none, "sparse": sparse, "hierarchical": hierarchical}
