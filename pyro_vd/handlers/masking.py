"""Train-time masking: which means stay, at a log_alpha threshold."""

import torch
from torch import Tensor

from pyro_vd.distributions import WeightNormal

__all__ = ["kept"]


@torch.no_grad()  # what a mask is made from need not be kept for a backward pass
def kept(q: WeightNormal | torch.distributions.Normal, threshold: float | Tensor) -> Tensor:
    """Whether log_alpha < threshold: bools, the shape of ``q``, a factorised Gaussian.

    An infinite threshold keeps all, a mean of exactly 0 too: a bias that starts there has to be able to leave.
    """
    if isinstance(q, WeightNormal) and q.multiplicative:
        return q.log_alpha < threshold
    threshold = torch.as_tensor(threshold, dtype=q.mean.dtype, device=q.mean.device)
    least = torch.where(threshold.isposinf(), -1.0, (-threshold).exp())
    # Of the variance, which the rule needs anyway: a compiler then makes the mask again where it needs it again.
    return q.mean.square() > least * q.variance
