"""matmul_precision: matrix products and convolutions of means in a lower precision, everything else as it was.

Not torch.autocast: torch.export keeps the outer of two nested regions only, and the inner one is where variances are
left out of it.
"""

from __future__ import annotations

from contextvars import Token

import torch
from torch.overrides import TorchFunctionMode

from pyro_vd.handlers.rules.casting import matmul_dtype, product

__all__ = ["matmul_precision"]


class matmul_precision(TorchFunctionMode):
    """Inside, linear layers, convolutions and matrix products round float32 arguments and results to ``dtype``.

    Everything else is in float32: parameters, their moments, the noise and its variance, KL and likelihood. A product
    inside an operation that PyTorch sees as one stays as it is, as do the scores of attention.

    Args:
        dtype: torch.bfloat16, which has float32's range. Variances of weights start near e^-10.

    Example:
        >>> import torch.nn.functional as F
        >>> x = torch.tensor([[1.0, 2.0**-10]])
        >>> F.linear(x, torch.ones(1, 2)).item(), (x * 1.001)[0, 0].item() > 1
        (1.0009765625, True)
        >>> with matmul_precision(torch.bfloat16):
        ...     F.linear(x, torch.ones(1, 2)).item(), (x * 1.001)[0, 0].item() > 1
        (1.0, True)
    """

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype
        self._tokens: list[Token] = []

    def __enter__(self):
        self._tokens.append(matmul_dtype.set(self.dtype))
        return super().__enter__()

    def __exit__(self, *error):
        try:
            return super().__exit__(*error)
        finally:
            matmul_dtype.reset(self._tokens.pop())

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return product(func, *args, **(kwargs or {}))
