"""Channels whose value may change with the size of the inputs although no weight enters them.

A channel without weights is folded into biases only if it is one number, the same for all inputs, at all positions and
for all numbers of positions. That it differs between positions is seen in its values. That it depends on their number
is not, and follows from the operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyro_vd.compress.rules.calls import Call
from pyro_vd.compress.rules.functions import ELEMENTWISE
from pyro_vd.compress.rules.labels import Labeled, varying_axes

__all__ = ["CONSTANT_TOLERANCE", "sized_labels"]

CONSTANT_TOLERANCE = 1e-6  # of a constant channel's value
TOTALS = ("sum", "prod", "softmax", "splitrecurrent")  # they keep 0, and only 0, whatever the number of positions
LOGARITHMS = ("logsumexp", "log_softmax", "logsoftmax")  # they keep no number


def sized_labels(call: Call, values: Sequence[Tensor], results: Sequence[Labeled]) -> set[int]:
    """Labels of the channels of a call's results that are not one number for inputs of every size.

    Args:
        call: the call.
        values: the tensors of its result.
        results: their labels.
    """
    found: set[int] = set()
    for value, result in zip(values, results, strict=True):
        low, high = _extremes(value, result.labels)
        sized = ~(high - low <= CONSTANT_TOLERANCE * low.abs().maximum(high.abs()))  # NaN is no number either
        if call.kind in LOGARITHMS or (call.kind in ELEMENTWISE and call.reads_number):
            sized |= True
        elif call.kind in TOTALS or _averages_padding(call):
            sized |= (low != 0) | (high != 0)
        found.update(result.labels[sized].tolist())
    return found


def _extremes(value: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value at each label."""
    value = value.to("cpu").double()
    axes = sorted(set(range(value.ndim)) - set(varying_axes(labels)))
    return (value.amin(axes, keepdim=True), value.amax(axes, keepdim=True)) if axes else (value, value)


def _averages_padding(call: Call) -> bool:
    """Whether zeros around an image, or a part of a window, may enter an average."""
    if not call.kind.replace("_", "").startswith("avgpool"):
        return False
    module: Any = call.module
    if module is not None:
        padding, ceil_mode = module.padding, module.ceil_mode
    else:
        padding, ceil_mode = call.argument(3, "padding", 0), call.argument(4, "ceil_mode", False)
    return bool(ceil_mode) or (any(padding) if isinstance(padding, tuple | list) else bool(padding))
