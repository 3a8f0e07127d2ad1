"""The axes of weights in ArviZ data: their names, and which of their units are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from pyro_vd.errors import UserError
from pyro_vd.model.layers import TRANSPOSED_CONVOLUTIONS, WEIGHT_LAYERS
from pyro_vd.posterior import Posterior

__all__ = ["Axis", "Index", "select_axes"]

Index = slice | Sequence[int]
POSITION_NAMES = {1: ("position",), 2: ("row", "column"), 3: ("depth", "row", "column")}


@dataclass(frozen=True)
class Axis:
    """One axis of a weight in the posterior group.

    Attributes:
        name: the site, "_", and what the axis counts.
        numbers: indices of the units that are stored.
    """

    name: str
    numbers: np.ndarray


def select_axes(
    posterior: Posterior, weights: Mapping[str, Sequence[Index]] | Sequence[str] | None
) -> dict[str, list[Axis]]:
    """Site -> the axes of the part of its weight that is stored.

    Args:
        posterior: a trained pair.
        weights: see :func:`pyro_vd.diagnostics.to_arviz`.

    Raises:
        UserError: for an unknown site, and an index that does not fit its weight.
    """
    if isinstance(weights, str):
        raise UserError(f"to_arviz: weights={weights!r} is one name; give a list of names, or name -> indices")
    chosen = list(posterior.model.priors) if weights is None else weights
    if not chosen:
        raise UserError("to_arviz: weights is empty; name at least one site")
    indices = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen, ())
    unknown = sorted(indices.keys() - posterior.model.priors.keys())
    if unknown:
        known = ", ".join(posterior.model.priors)
        raise UserError(f"to_arviz: the posterior has no site {', '.join(unknown)}; it has {known}")
    return {site: _axes_of_site(posterior, site, index) for site, index in indices.items()}


def _axes_of_site(posterior: Posterior, site: str, index: Sequence[Index]) -> list[Axis]:
    shape = posterior.model.initial[site].shape
    if len(index) > len(shape):
        raise UserError(f"to_arviz: {len(index)} indices for {site!r}, which has {len(shape)} axes")
    names = _axis_names(posterior.model.net.get_submodule(site.rpartition(".")[0]), len(shape))
    everything = [slice(None)] * (len(shape) - len(index))
    axes = []
    for name, size, part in zip(names, shape, [*index, *everything], strict=True):
        try:
            numbers = np.arange(size)[part if isinstance(part, slice) else list(part)]
        except (IndexError, TypeError) as error:
            raise UserError(f"to_arviz: {part!r} does not index the {name} axis of {site!r}: {error}") from None
        axes.append(Axis(f"{site}_{name}", numbers))
    return axes


def _axis_names(module: nn.Module, rank: int) -> tuple[str, ...]:
    """What the axes of a weight count: (unit, input, row, column) for a convolution. Numbers for unknown layers."""
    if isinstance(module, nn.Embedding):
        return ("item", "feature")
    if isinstance(module, WEIGHT_LAYERS):
        ends = ("input", "unit") if isinstance(module, TRANSPOSED_CONVOLUTIONS) else ("unit", "input")
        names = (*ends, *POSITION_NAMES.get(rank - 2, ()))
        if len(names) == rank:
            return names
    return tuple(f"axis_{number}" for number in range(rank))
