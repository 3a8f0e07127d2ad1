"""Train-time masking: which means stay, at a log_alpha threshold."""

import torch
from torch import Tensor

__all__ = ["kept"]


def kept(inverse_alpha: Tensor, threshold: float | Tensor) -> Tensor:
    """Whether log_alpha < threshold: bools, shape of ``inverse_alpha`` = 1 / alpha.

    An infinite threshold keeps all, a mean of exactly 0 too: a bias that starts there has to be able to leave.
    """
    threshold = torch.as_tensor(threshold, dtype=inverse_alpha.dtype, device=inverse_alpha.device)
    least = torch.where(threshold.isposinf(), -1.0, (-threshold).exp())
    return inverse_alpha > least
