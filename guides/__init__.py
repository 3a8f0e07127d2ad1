"""Dropout schemes, one per file. SCHEMES maps a scheme's name to its module, which holds ``prior``, the prior of its
paper, ``defaults``, how it is usually trained and pruned, and ``Guide``.

Every ``Guide`` takes the lifted model and then keyword arguments, which have one order in all of them:

1. the noise: ``p``, ``parametrization``, ``share``, ``temperature``;
2. where its parameters start: ``init``;
3. what it is put on: ``channels``, ``masks``.

``repr`` shows them without ``init``; it identifies the guide in a checkpoint.
"""

from types import ModuleType

if __name__ != "pyro_vd.guides":
    raise ImportError("the package is pyro_vd.guides: from pyro_vd import guides")

from pyro_vd.guides import bernoulli as bernoulli
from pyro_vd.guides import concrete as concrete
from pyro_vd.guides import gaussian_srivastava as gaussian_srivastava
from pyro_vd.guides import gaussian_wang as gaussian_wang
from pyro_vd.guides import group_horseshoe as group_horseshoe
from pyro_vd.guides import group_normal_jeffreys as group_normal_jeffreys
from pyro_vd.guides import hierarchical as hierarchical
from pyro_vd.guides import hierarchical_a as hierarchical_a
from pyro_vd.guides import l0 as l0
from pyro_vd.guides import none as none
from pyro_vd.guides import sparse as sparse
from pyro_vd.guides import structured_log_normal as structured_log_normal
from pyro_vd.guides import variational_a as variational_a
from pyro_vd.guides import variational_b as variational_b

ard = hierarchical  # automatic relevance determination has the same objective (Kharitonov et al. 2018)

SCHEMES: dict[str, ModuleType] = {
    "none": none,
    "bernoulli": bernoulli,
    "gaussian_srivastava": gaussian_srivastava,
    "gaussian_wang": gaussian_wang,
    "variational_a": variational_a,
    "variational_b": variational_b,
    "sparse": sparse,
    "hierarchical": hierarchical,
    "hierarchical_a": hierarchical_a,
    "ard": ard,
    "concrete": concrete,
    "group_normal_jeffreys": group_normal_jeffreys,
    "group_horseshoe": group_horseshoe,
    "structured_log_normal": structured_log_normal,
    "l0": l0,
}


def prior_name(scheme: ModuleType) -> str:
    """Name of the scheme's own prior, which is a class or an instance."""
    return getattr(scheme.prior, "__name__", type(scheme.prior).__name__)
