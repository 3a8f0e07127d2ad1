"""What each function and method does to channels, in one table: ``FUNCTION_RULES``.

To let :func:`pyro_vd.compress.shrink` handle another function, add its name to the table, with its rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.rules.calls import Call
from pyro_vd.compress.rules.labels import Labeled, compact, varying_axes
from pyro_vd.compress.rules.merges import keep_all, label_elementwise, merge
from pyro_vd.compress.rules.movements import (
    label_channel_shuffle,
    label_chunks,
    label_concatenation,
    label_movement,
    label_padding,
    label_parts,
    label_pixel_shuffle,
    label_reshape,
    label_squeeze,
    label_stack,
)
from pyro_vd.compress.rules.products import label_attention, label_matmul

__all__ = [
    "ELEMENTWISE",
    "FUNCTION_RULES",
    "Rule",
    "label_glu",
    "label_last_axes",
    "label_normalization",
    "label_resizing",
    "label_softmax",
]

Rule = Callable[[Call, Channels], Any]

ELEMENTWISE = (
    "abs", "add", "add_", "add_mask", "alpha_dropout", "celu", "clamp", "clip", "clone", "contiguous", "cos",
    "detach", "div", "div_", "double", "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "eq", "erf", "exp",
    "feature_alpha_dropout", "float", "floor", "floordiv", "ge", "gelu", "gt", "half", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "iadd", "imul", "isub", "itruediv", "le", "leaky_relu", "leaky_relu_", "log", "log1p",
    "logsigmoid", "lt", "masked_fill", "maximum", "minimum", "mish", "mod", "mul", "mul_", "multiply", "ne", "neg",
    "pow", "reciprocal", "relu", "relu6", "relu_", "remainder", "round", "rsqrt", "rsub", "selu", "sigmoid",
    "sigmoid_", "sign", "silu", "sin", "softplus", "softshrink", "softsign", "sqrt", "square", "stochastic_depth",
    "sub", "sub_", "subtract", "tanh", "tanh_", "tanhshrink", "threshold", "truediv", "where",
)  # fmt: skip
REDUCTIONS = ("amax", "amin", "logsumexp", "mean", "prod", "std", "sum", "var")
MOVEMENTS = (
    "T", "expand", "expand_as", "flip", "mT", "movedim", "permute", "pixel_unshuffle", "repeat", "swapaxes", "t",
    "tile", "transpose", "unsqueeze",
)  # fmt: skip
CONVERSIONS = ("to", "type_as")
KEEPING = ("group_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm")


def label_conversion(call: Call, channels: Channels) -> Tensor:
    """Another type, perhaps that of a second tensor, whose values do not enter."""
    return call.source.labels


def label_reduction(call: Call, channels: Channels) -> Tensor:
    """A sum, a mean or a maximum over positions. Over channels, all of them stay."""
    source, axes = call.source, call.axes() if len(call.tensors) == 1 else []
    if not axes or set(axes) & set(varying_axes(source.labels)):
        return keep_all(call, channels)
    keepdim = len(call.shapes[0]) == len(source.shape)
    return source.labels.amax(axes, keepdim=keepdim)


def label_extremes(call: Call, channels: Channels) -> tuple[Tensor, ...]:
    """A maximum over positions and its index. Without an axis, and of two tensors, all channels stay."""
    return (label_reduction(call, channels),) * len(call.shapes)


def label_softmax(call: Call, channels: Channels) -> Tensor:
    """A softmax over positions, as that of attention. Over channels, all of them stay."""
    module: Any = call.module
    axis = call.argument(1, "dim", -1) if module is None else module.dim
    if axis is None or axis % len(call.source.shape) in varying_axes(call.source.labels):
        channels.protect(call.source.labels)
    return call.source.labels


def label_last_axes(call: Call, channels: Channels, axes: int) -> tuple[Tensor, ...]:
    """A pool, perhaps with its indices, or a resizing of so many last axes; if these hold channels, they stay."""
    source = call.source
    if any(axis >= len(source.shape) - axes for axis in varying_axes(source.labels)):
        return (keep_all(call, channels),) * len(call.shapes)
    return (source.labels,) * len(call.shapes)


def label_resizing(call: Call, channels: Channels) -> tuple[Tensor, ...]:
    """``interpolate``: all axes but the first two."""
    return label_last_axes(call, channels, len(call.source.shape) - 2)


def label_normalization(call: Call, channels: Channels) -> Tensor:
    """A normalization over channels: they stay."""
    channels.protect(call.source.labels)
    return compact(call.source.labels)


def _pool_rule(axes: int) -> Rule:
    return lambda call, channels: label_last_axes(call, channels, axes)


def label_glu(call: Call, channels: Channels) -> Tensor:
    """Half of the channels times a gate, the sigmoid of the other half."""
    source = call.source
    axis = call.argument(1, "dim", -1) if call.module is None else getattr(call.module, "dim", -1)
    halves = source.expand().chunk(2, axis)
    return merge([Labeled(tuple(half.shape), compact(half), source.from_inputs) for half in halves], channels)


POOLS = {
    f"{kind}_pool{axes}d{suffix}": _pool_rule(axes)
    for kind in ("max", "avg", "lp", "adaptive_avg", "adaptive_max")
    for axes in (1, 2, 3)
    for suffix in ("", "_with_indices")[: 1 + kind.endswith("max")]
}
FUNCTION_RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, label_elementwise),
    **dict.fromkeys(CONVERSIONS, label_conversion),
    **dict.fromkeys(REDUCTIONS, label_reduction),
    **dict.fromkeys(MOVEMENTS, label_movement),
    **dict.fromkeys(KEEPING, label_normalization),
    **dict.fromkeys(("flatten", "reshape", "unflatten", "view"), label_reshape),
    **dict.fromkeys(("getitem", "narrow", "select", "split", "unbind"), label_parts),
    **dict.fromkeys(("cat", "concat", "concatenate"), label_concatenation),
    **dict.fromkeys(("softmax", "log_softmax"), label_softmax),
    **dict.fromkeys(("bmm", "matmul"), label_matmul),
    **dict.fromkeys(("max", "min"), label_extremes),
    **POOLS,
    "channel_shuffle": label_channel_shuffle,
    "chunk": label_chunks,
    "glu": label_glu,
    "interpolate": label_resizing,
    "pad": label_padding,
    "pixel_shuffle": label_pixel_shuffle,
    "scaled_dot_product_attention": label_attention,
    "squeeze": label_squeeze,
    "stack": label_stack,
}
