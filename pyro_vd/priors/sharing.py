"""Which weights share a variable of a prior: every weight its own, those of an input unit, or those of a layer."""

from __future__ import annotations

from typing import Literal, get_args

from pyro_vd.errors import UserError

__all__ = ["Share", "check_share", "shared_dims"]

Share = Literal["weight", "unit", "layer"]


def check_share(prior: str, share: str, dim: int) -> None:
    """Raises UserError for another word than those of Share, and for a dimension that is not a whole number."""
    if share not in get_args(Share):
        raise UserError(f"{prior}(share={share!r}): share must be one of {', '.join(map(repr, get_args(Share)))}")
    if not isinstance(dim, int):
        raise UserError(f"{prior}(dim={dim!r}): dim must be a whole number")


def shared_dims(prior: str, share: Share, dim: int, ndim: int) -> list[int]:
    """The dimensions of a weight of ``ndim`` dimensions along which one variable is shared.

    Args:
        prior: its name, for the message.
        dim: the dimension that counts units.

    Raises:
        NotImplementedError: for units of a weight with fewer than two dimensions, or without the dimension ``dim``.
    """
    if share == "unit" and not -ndim <= dim < max(ndim, 2):
        raise NotImplementedError(f"{prior}('unit', dim={dim}): the weights have {ndim} dimensions")
    if share == "unit" and ndim < 2:
        raise NotImplementedError(f"{prior}('unit') needs weights with inputs and outputs, two dimensions or more")
    own = {"weight": range(ndim), "unit": (dim % max(ndim, 1),), "layer": ()}[share]
    return [each for each in range(ndim) if each not in own]
