"""products_in: matrix products and convolutions of means in a lower precision, everything else as it was.

Not torch.autocast: torch.export keeps the outer of two nested regions only, and the inner one is where variances are
left out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pyro_vd.handlers.noisy_weight import NoisyWeight
from pyro_vd.handlers.products import CONVOLUTIONS, MATMULS

__all__ = ["exact_products", "product", "products_in"]

PRODUCTS = {F.linear, *CONVOLUTIONS, *MATMULS, torch.bmm, torch.Tensor.bmm}
_precision: ContextVar[torch.dtype | None] = ContextVar("_precision", default=None)


class products_in(TorchFunctionMode):
    """Inside, linear layers, convolutions and matrix products round float32 arguments and results to ``dtype``.

    Everything else is in float32: parameters, their moments, the noise and its variance, KL and likelihood. A product
    inside an operation that PyTorch sees as one stays as it is, as do the scores of attention.

    Args:
        dtype: torch.bfloat16, which has float32's range. Variances of weights start near e^-10.

    Example:
        >>> x = torch.tensor([[1.0, 2.0**-10]])
        >>> F.linear(x, torch.ones(1, 2)).item(), (x * 1.001)[0, 0].item() > 1
        (1.0009765625, True)
        >>> with products_in(torch.bfloat16):
        ...     F.linear(x, torch.ones(1, 2)).item(), (x * 1.001)[0, 0].item() > 1
        (1.0, True)
    """

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self._tokens: list[Token] = []

    def __enter__(self):
        self._tokens.append(_precision.set(self.dtype))
        return super().__enter__()

    def __exit__(self, *error):
        try:
            return super().__exit__(*error)
        finally:
            _precision.reset(self._tokens.pop())

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return product(func, *args, **(kwargs or {}))


@contextmanager
def exact_products() -> Iterator[None]:
    """Inside, products are as they are: a rule's variance, where PyTorch has not put the mode aside."""
    token = _precision.set(None)
    try:
        yield
    finally:
        _precision.reset(token)


def product(op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``op`` in the precision of products: for the mean in a rule, where PyTorch has put the mode aside."""
    dtype = _precision.get()
    if dtype is None or op not in PRODUCTS or _has_noise(args, kwargs):
        return op(*args, **kwargs)  # a noisy weight's rule comes back here with its mean
    args, kwargs = tree_map_only(Tensor, lambda tensor: _rounded(tensor, dtype), (args, kwargs))
    result = op(*args, **kwargs)
    return result.float() if result.dtype == dtype else result


def _has_noise(*arguments: Any) -> bool:
    return any(isinstance(leaf, NoisyWeight) for leaf in tree_leaves(arguments))


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.dtype == torch.float32 else tensor
