"""matmul_precision: matrix products and convolutions of means in a lower precision, everything else unchanged.

It does not use torch.autocast. torch.export keeps only the outer of two nested autocast regions, and the inner one is
needed to compute variances in float32.
"""

from __future__ import annotations

from contextvars import Token
from typing import Any, Self, cast

import torch
from torch.overrides import TorchFunctionMode

from pyro_vd.handlers.rules.casting import call_with_cast, matmul_dtype

__all__ = ["matmul_precision"]


class matmul_precision(TorchFunctionMode):
    """Rounds float32 arguments and results of linear layers, convolutions and matrix products to ``dtype``.

    Everything else is computed in float32: parameters, their means and variances, the noise, KL and likelihood. A
    product inside a fused operation, such as the scores of attention, is not changed.

    Args:
        dtype: torch.bfloat16, which has float32's range: variances of weights start near e^-10.

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
        self._tokens: list[Token[torch.dtype | None]] = []

    def __enter__(self) -> Self:
        self._tokens.append(matmul_dtype.set(self.dtype))
        cast(Any, super()).__enter__()  # PyTorch's has no types
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            cast(Any, super()).__exit__(*error)
        finally:
            matmul_dtype.reset(self._tokens.pop())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call_with_cast(func, *args, **(kwargs or {}))
