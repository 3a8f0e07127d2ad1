"""The precision of matrix products and convolutions, as rules and the handler ``matmul_precision`` share it."""

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

__all__ = ["full_precision", "matmul_dtype", "product"]

PRODUCTS = {F.linear, *CONVOLUTIONS, *MATMULS, torch.bmm, torch.Tensor.bmm}
matmul_dtype: ContextVar[torch.dtype | None] = ContextVar("matmul_dtype", default=None)


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, products are as they are: a rule's variance, where PyTorch has not put the mode aside."""
    token = matmul_dtype.set(None)
    try:
        yield
    finally:
        matmul_dtype.reset(token)


def product(op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``op`` in the precision of products: for the mean in a rule, where PyTorch has put the mode aside."""
    dtype = matmul_dtype.get()
    if dtype is None or op not in PRODUCTS or _has_noise(args, kwargs):
        return op(*args, **kwargs)  # a noisy weight's rule comes back here with its mean
    args, kwargs = tree_map_only(Tensor, lambda tensor: _rounded(tensor, dtype), (args, kwargs))
    result = op(*args, **kwargs)
    return result.float() if result.dtype == dtype else result


def _has_noise(*arguments: Any) -> bool:
    return any(isinstance(leaf, NoisyWeight) for leaf in tree_leaves(arguments))


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.dtype == torch.float32 else tensor
