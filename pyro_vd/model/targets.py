"""Checks that targets fit their likelihood: containers, shapes before log_prob broadcasts them, and values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, NegativeBinomial, Poisson
from torch.distributions.constraints import Constraint

from pyro_vd.errors import UserError
from pyro_vd.model.event import base_distribution
from pyro_vd.model.selection import OBSERVED
from pyro_vd.pytree import Tree, as_tree, named_leaves

__all__ = ["Observed", "as_target", "check_some_label", "check_target_shape", "check_target_values", "has_one_support",
           "likelihood_sites", "log_likelihoods", "observed_sites"]  # fmt: skip

COUNTS = (NegativeBinomial, Poisson)
MOST_NAMED = 6  # targets in an error


class Observed(NamedTuple):
    """The distribution of the targets at one site, and the targets."""

    target: Distribution
    y: Tensor


def likelihood_sites(targets: Tree) -> dict[str, Distribution]:
    """Site -> distribution, of what a likelihood returns: ``y``, or ``y.key`` for each of several.

    Raises:
        UserError: for what is not a distribution, naming it.
    """
    leaves = named_leaves(OBSERVED, as_tree(targets))
    sites = dict(leaves)
    if len(sites) < len(leaves):
        raise UserError(f"two targets have one name, among {_list_sites(sites)}; give the likelihood's dict other keys")
    for site, target in sites.items():
        if not isinstance(target, Distribution):
            raise UserError(
                f"the likelihood gives a {type(target).__name__} for {site}; it must give a distribution, or a tuple "
                "or dict of distributions"
            )
    if not sites:
        raise UserError("the likelihood gives no distribution")
    return sites


def observed_sites(targets: Tree, y: Tree) -> dict[str, Observed]:
    """Site -> distribution and targets, whose containers must be equal, and whose shapes.

    Raises:
        UserError: for targets in other containers than the likelihood's, and as :func:`check_target_shape`.
    """
    distributions, found = likelihood_sites(targets), dict(named_leaves(OBSERVED, y))
    if distributions.keys() != found.keys():
        raise UserError(
            f"the targets are {_list_sites(found)}, but the likelihood gives distributions of "
            f"{_list_sites(distributions)}; give both in the same tuples or dicts"
        )
    for site, target in distributions.items():
        check_target_shape(target, found[site], site)
    return {site: Observed(target, found[site]) for site, target in distributions.items()}


def _list_sites(sites: Iterable[str]) -> str:
    names = list(sites)
    listed = ", ".join(names[:MOST_NAMED]) + (
        "" if len(names) <= MOST_NAMED else f" and {len(names) - MOST_NAMED} more"
    )
    return "one tensor y" if names == [OBSERVED] else listed or "nothing"


def log_likelihoods(targets: Tree, y: Tree) -> list[Tensor]:
    """The log-likelihoods of the targets, of the batch shape of each distribution.

    Raises:
        UserError: as :func:`observed_sites`.
    """
    return [one.target.log_prob(as_target(*one)) for one in observed_sites(targets, y).values()]


def as_target(target: Distribution, y: Tensor) -> Tensor:
    """``y`` in a dtype that the distribution's log_prob accepts: of Bernoulli and counts, integers become floats."""
    base = base_distribution(target)
    return y.to(base.mean.dtype) if isinstance(base, (Bernoulli, *COUNTS)) and not y.is_floating_point() else y


def check_target_shape(target: Distribution, y: Tensor, name: str = OBSERVED) -> None:
    """Refuses targets of another shape than the likelihood's, which log_prob would broadcast.

    Raises:
        UserError: naming both shapes and how to make them equal. Also for logits of images with as many classes as
            rows and columns, unless the likelihood uses ``to_event``, which shows that its axes were chosen.
    """
    shape = target.batch_shape + target.event_shape
    if shape != y.shape:
        raise UserError(
            f"the targets {name} have shape {tuple(y.shape)}, but the likelihood of the network's output needs targets "
            f"of shape {tuple(shape)}: {_repair(target, shape, y)}"
        )
    if isinstance(target, Categorical) and len(shape) > 2 and len(set(target.logits.shape[1:])) == 1:
        raise UserError(
            f"logits of shape {tuple(target.logits.shape)} do not say which axis counts classes: the last one would be "
            "used, but PyTorch's convention for images is axis 1. Use a likelihood of your own, lambda logits: "
            "pyro.distributions.Categorical(logits=logits.movedim(1, -1)).to_event(2), or without movedim"
        )


def _repair(target: Distribution, shape: torch.Size, y: Tensor) -> str:
    if y.shape == shape[:-1] and shape[-1] == 1:
        return f"give y.unsqueeze(-1), or end the network's forward with .squeeze(-1) for targets {tuple(y.shape)}"
    if y.shape[:-1] == shape and y.shape[-1] == 1:
        return "give y.squeeze(-1)"
    base = base_distribution(target)
    if isinstance(base, Categorical):
        logits = base.logits
        if y.shape == logits.shape:
            return "one-hot targets must be labels, y.argmax(-1)"
        if y.shape == logits.shape[:1] + logits.shape[2:]:
            return "the last axis of the output counts classes; end the network's forward with .movedim(1, -1)"
    return "they must be equal; targets are not broadcast"


def check_target_values(target: Distribution, y: Tensor, name: str = OBSERVED) -> None:
    """Refuses targets outside the support of the likelihood, and NaN and infinite ones.

    Nothing is checked if the distribution has no support or was made with ``validate_args=False``.

    Args:
        target: the distribution of ``y``; if its support is the same for all examples, it may be that of other
            examples.
        y: targets.
        name: of the targets, in the error.

    Raises:
        UserError: naming a value, its index, the support and, for common mistakes, the repair.
    """
    support = _support_of(target)
    if support is None or vars(target).get("_validate_args") is False:
        return
    valid = support.check(y)
    if y.is_floating_point():
        finite = y.isfinite()
        valid = valid & (finite if valid.shape == y.shape else finite.flatten(valid.ndim).all(-1))
    if bool(valid.all()):
        return
    index = tuple((~valid).nonzero()[0].tolist())
    raise UserError(
        f"{name}[{', '.join(map(str, index))}] is {_as_text(y[index])}, which "
        f"{type(base_distribution(target)).__name__} cannot give{_allowed(target, y)}"
    )


def check_some_label(target: Distribution, y: Tensor, name: str = OBSERVED) -> None:
    """Raises UserError if all targets have the label that means that there is none."""
    ignored = getattr(base_distribution(target), "ignore_index", None)
    if ignored is not None and bool((y == ignored).all()):
        raise UserError(
            f"every target of {name} is {ignored}, which ignore_index leaves out; there is nothing to learn"
        )


def has_one_support(target: Distribution) -> bool:
    """Whether the support is the same for all examples. That of Uniform(0, output), for example, is not."""
    support = _support_of(target)
    return support is None or not any(getattr(bound, "ndim", 0) for bound in vars(support).values())


def _support_of(target: Distribution) -> Constraint | None:
    try:
        return target.support
    except NotImplementedError:  # a distribution of the user's that does not define it
        return None


def _as_text(value: Tensor) -> str:
    return f"{value.item():g}" if value.numel() == 1 else f"a vector of shape {tuple(value.shape)}"


def _allowed(target: Distribution, y: Tensor) -> str:
    base = base_distribution(target)
    low, high = y.min().item(), y.max().item()
    if isinstance(base, Categorical):
        classes = base.logits.shape[-1]
        allowed = f": labels are whole numbers from 0 to {classes - 1}"
        if low == 1 and high == classes:
            return f"{allowed}; these start at 1, give y - 1"
        if low == -100:
            return (
                f"{allowed}; leave out the examples without a label, or give the likelihood lambda logits: "
                "pyro_vd.Categorical(logits, ignore_index=-100)"
            )
        return f"{allowed}, because the network has {classes} outputs"
    if isinstance(base, Bernoulli):
        if (low, high) == (-1, 1):
            return ": targets are 0 or 1; give (y + 1) / 2"
        if (low, high) == (0, 255):
            return ": targets are 0 or 1; give y / 255"
        if low >= 0 and high <= 1:
            return (
                ": targets are 0 or 1; for soft targets give the likelihood lambda logits: "
                "pyro.distributions.Bernoulli(logits=logits, validate_args=False)"
            )
        return ": targets are 0 or 1"
    if isinstance(base, COUNTS):
        return ": targets are counts, whole numbers from 0 on"
    return f": its support is {target.support}" if has_one_support(target) else " for that example"
