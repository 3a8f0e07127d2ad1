"""Checks that targets fit their likelihood: their shape before log_prob broadcasts it, and their values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, NegativeBinomial, Poisson
from torch.distributions.constraints import Constraint

from pyro_vd.errors import UserError
from pyro_vd.model.event import base_distribution

__all__ = ["as_target", "check_target_shape", "check_target_values", "has_one_support"]

COUNTS = (NegativeBinomial, Poisson)


def as_target(target: Distribution, y: Tensor) -> Tensor:
    """``y`` in a dtype that the distribution's log_prob accepts: of Bernoulli and counts, integers become floats."""
    base = base_distribution(target)
    return y.to(base.mean.dtype) if isinstance(base, (Bernoulli, *COUNTS)) and not y.is_floating_point() else y


def check_target_shape(target: Distribution, y: Tensor) -> None:
    """Refuses targets of another shape than the likelihood's, which log_prob would broadcast.

    Raises:
        UserError: naming both shapes and how to make them equal. Also for logits of images with as many classes as
            rows and columns, unless the likelihood uses ``to_event``, which shows that its axes were chosen.
    """
    shape = target.batch_shape + target.event_shape
    if shape != y.shape:
        raise UserError(
            f"the targets y have shape {tuple(y.shape)}, but the likelihood of the network's output needs targets of "
            f"shape {tuple(shape)}: {_repair(target, shape, y)}"
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


def check_target_values(target: Distribution, y: Tensor) -> None:
    """Refuses targets outside the support of the likelihood, and NaN and infinite ones.

    Nothing is checked if the distribution has no support or was made with ``validate_args=False``.

    Args:
        target: the distribution of ``y``; if its support is the same for all examples, it may be that of other
            examples.
        y: targets.

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
        f"y[{', '.join(map(str, index))}] is {_as_text(y[index])}, which {type(base_distribution(target)).__name__} "
        f"cannot give{_allowed(target, y)}"
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
            return f"{allowed}; leave out the examples without a label"
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
