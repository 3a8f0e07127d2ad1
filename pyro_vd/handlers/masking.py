"""Train-time masking: which means stay, at a log_alpha threshold."""

import torch
from torch import Tensor

__all__ = ["kept"]


def kept(inverse_alpha: Tensor, threshold: float | Tensor) -> Tensor:
    """1 where log_alpha < threshold, else 0, without a gradient; shape and dtype of ``inverse_alpha`` = 1 / alpha."""
    # As arithmetic, not as a comparison: compiled code would keep a mask of bools for the backward pass, and inductor
    # is slow to write one on a CPU.
    return (inverse_alpha - torch.as_tensor(-threshold).exp()).sign().relu().detach()
