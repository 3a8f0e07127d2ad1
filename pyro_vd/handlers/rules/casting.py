"""The dtype of matrix products and convolutions, shared by the rules and the handler ``matmul_precision``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from pyro_vd.handlers.rules.noisy_weight import NoisyWeight
from pyro_vd.handlers.rules.operations import CONVOLUTIONS, MATMULS

__all__ = ["call_with_cast", "full_precision", "matmul_dtype"]

MATMUL_OPS = {F.linear, *CONVOLUTIONS, *MATMULS, torch.bmm, torch.Tensor.bmm}
matmul_dtype: ContextVar[torch.dtype | None] = ContextVar("matmul_dtype", default=None)


@contextmanager
def full_precision() -> Iterator[None]:
    """Switches casting off inside the ``with`` block, for a rule's variance."""
    token = matmul_dtype.set(None)
    try:
        yield
    finally:
        matmul_dtype.reset(token)


def call_with_cast(op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls ``op``; if it is a matrix product or convolution, with float32 arguments and result in the matmul dtype.

    Rules call it for the mean: while a rule runs, PyTorch has disabled the mode that would do it.
    """
    dtype = matmul_dtype.get()
    if dtype is None or op not in MATMUL_OPS or _has_noise(args, kwargs):
        return op(*args, **kwargs)  # the rule of the noisy weight calls this function again, with its mean
    args, kwargs = tree_map_only(Tensor, lambda tensor: _cast(tensor, dtype), (args, kwargs))
    result = op(*args, **kwargs)
    return result.float() if result.dtype == dtype else result


def _has_noise(*arguments: Any) -> bool:
    return any(isinstance(leaf, NoisyWeight) for leaf in tree_leaves(arguments))


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.dtype == torch.float32 else tensor
