"""Local rule of multi-head attention: its projections are linear operations and follow the rules of those.

PyTorch passes F.multi_head_attention_forward to a noisy weight as one operation. The function's first statement asks
``has_torch_function`` whether an argument overrides it. The code below that statement is ordinary: it slices the packed
in-projection, projects by F.linear, masks, attends and projects out. The rule runs the same code with
``has_torch_function`` replaced by a function that returns False, so every option is PyTorch's own. A copy of attention
would be a hundred lines that must follow PyTorch's. Projecting first and passing identity matrices as weights would
cost one more matrix product for each projection, and one more rounding in TF32.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch.nn.functional as F

from pyro_vd.handlers.rules.gaussian import GAUSSIANS
from pyro_vd.handlers.rules.noisy_weight import register_local

__all__: list[str] = []


@register_local(GAUSSIANS, F.multi_head_attention_forward)
def _attention(op: FunctionType, *args: Any, **kwargs: Any) -> Any:
    """Samples the projections of noisy weights and biases, each position on its own; the rest is deterministic."""
    names = {**op.__globals__, "has_torch_function": lambda _: False}  # a copy: PyTorch is not changed
    return FunctionType(op.__code__, names)(*args, **kwargs)
