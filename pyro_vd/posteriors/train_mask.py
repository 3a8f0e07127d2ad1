"""Train-time masking: which means stay, at a log_alpha threshold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_vd.posteriors import WeightNormal

__all__ = ["mark_started", "train_mask"]


@torch.no_grad()  # what a mask is made from need not be kept for a backward pass
def train_mask(
    q: WeightNormal | torch.distributions.Normal, threshold: float | Tensor, started: Tensor | None = None
) -> Tensor:
    """Mask of the means that train-time masking keeps: log_alpha < threshold, or not started yet.

    An infinite threshold keeps all.

    Args:
        q: a factorized Gaussian over weights, any shape.
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
        # Of the variance, which the rule needs anyway: a compiler then makes the mask again where it needs it again.
        below = q.mean.square() > least * q.variance
    return below if started is None else below | ~started


@torch.no_grad()
def mark_started(q: WeightNormal | torch.distributions.Normal, threshold: float | Tensor, started: Tensor) -> None:
    """Marks, in place, the weights whose log_alpha is below a finite threshold: from now on they may be masked.

    A mean that starts at exactly 0 has log_alpha = +inf. Masked from the first step on, it has no gradient and stays 0,
    and the layers before it get no gradient either. So a weight is masked only after its log_alpha has been below the
    threshold once.
    """
    if math.isfinite(threshold):
        started |= train_mask(q, threshold)
