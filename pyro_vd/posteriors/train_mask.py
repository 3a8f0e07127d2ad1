"""Train-time masking: the means that are kept at a log_alpha threshold."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.posteriors import WeightNormal

__all__ = ["mark_started", "masks_any", "train_mask"]


def masks_any(threshold: float | Tensor) -> bool:
    """Whether the threshold can mask a mean: it is not the number infinity. The value of a tensor may change later."""
    return isinstance(threshold, Tensor) or threshold != math.inf


@torch.no_grad()  # autograd then keeps nothing that the mask is computed from
def train_mask(q: Distribution, threshold: float | Tensor, started: Tensor | None = None) -> Tensor:
    """Mask of the means that train-time masking keeps: log_alpha < threshold, or not started yet.

    A threshold of +inf keeps all.

    Args:
        q: WeightNormal, or another factorized distribution over weights with a mean and a variance, any shape.
        threshold: a number or a 0-dim tensor.
        started: bools of the shape of ``q``, see :func:`mark_started`. If None, every weight counts as started.

    Returns:
        Bools of the shape of ``q``.
    """
    threshold = torch.as_tensor(threshold, dtype=q.mean.dtype, device=q.mean.device)
    if isinstance(q, WeightNormal) and q.multiplicative:
        below = q.log_alpha < threshold
    else:
        least = torch.where(threshold.isposinf(), -1.0, (-threshold).exp())
        # By the variance, which the rule computes anyway: a compiler can then recompute the mask instead of keeping it.
        below = q.mean.square() > least * q.variance
    return below if started is None else below | ~started


@torch.no_grad()
def mark_started(q: Distribution, threshold: float | Tensor, started: Tensor) -> None:
    """Marks, in place, the weights whose log_alpha is below a finite threshold: from now on they may be masked.

    A mean that starts at exactly 0 has log_alpha = +inf. If it is masked from the first step on, it has no gradient and
    stays 0, and the layers before it get no gradient either. So a weight is masked only after its log_alpha has been
    below the threshold once.
    """
    if math.isfinite(threshold):
        started |= train_mask(q, threshold)
