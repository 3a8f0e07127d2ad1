"""Local rule of multi-head attention: its projections are linear operations and follow the rules of those.

PyTorch hands F.multi_head_attention_forward to a noisy weight as one operation. The function asks in its first
statement, by ``has_torch_function``, whether an argument answers for it; all below is ordinary code, which slices the
packed in-projection, projects by F.linear, masks, attends and projects out. The rule runs that code with the question
answered no, and so every option is PyTorch's own, at no cost. To write attention out again would be a hundred lines
that follow PyTorch's; to hand projected queries, keys and values to the function with identity matrices for weights
would be a matrix product more for each projection, and in TF32 a rounding more.
"""

from __future__ import annotations

from types import FunctionType

import torch.nn.functional as F

from pyro_vd.handlers.rules.gaussian import GAUSSIANS
from pyro_vd.handlers.rules.noisy_weight import register_local

__all__: list[str] = []


@register_local(GAUSSIANS, F.multi_head_attention_forward)
def _attention(op, *args, **kwargs):
    """Samples the projections of noisy weights and biases, each position on its own; what follows is deterministic."""
    names = {**op.__globals__, "has_torch_function": lambda _: False}  # a copy: nothing of PyTorch's is changed
    return FunctionType(op.__code__, names)(*args, **kwargs)
