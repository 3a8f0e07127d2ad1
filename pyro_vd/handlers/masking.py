"""Train-time masking: which means stay, at a log_alpha threshold."""

import torch
from torch import Tensor

__all__ = ["kept"]


def kept(inverse_alpha: Tensor, threshold: float | Tensor) -> Tensor:
    """1 where log_alpha < threshold, else 0, without a gradient; shape and dtype of ``inverse_alpha`` = 1 / alpha.

    An infinite threshold keeps all, a mean of exactly 0 too: a bias that starts there has to be able to leave.
    """
    # As arithmetic, not as a comparison: compiled code would keep a mask of bools for the backward pass, and inductor
    # is slow to write one on a CPU.
    threshold = torch.as_tensor(threshold, dtype=inverse_alpha.dtype, device=inverse_alpha.device)
    finite = (inverse_alpha - (-threshold).exp()).sign().relu()
    return torch.maximum(finite, threshold.isposinf().to(finite)).detach()
