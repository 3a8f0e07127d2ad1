"""What a call does to channels: the labels of its result, from those of its arguments.

The rules are in the tables ``MODULE_RULES`` of :mod:`pyro_vd.compress.rules.modules` and ``FUNCTION_RULES`` of
:mod:`pyro_vd.compress.rules.functions`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.layers import LAYERS
from pyro_vd.compress.recurrent import SplitRecurrent
from pyro_vd.compress.rules.calls import Call, unknown
from pyro_vd.compress.rules.constants import sized_labels
from pyro_vd.compress.rules.functions import FUNCTION_RULES, Rule
from pyro_vd.compress.rules.labels import Labeled, outside
from pyro_vd.compress.rules.modules import rule_of_module

__all__ = ["label_outputs", "label_outside"]

PASSING = ("dropout", "contiguous", "clone", "float", "to")  # of the weights of attention: they still sum to 1


def label_outputs(call: Call, value: Any, channels: Channels) -> Any:
    """``value``, the result of the call, with a :class:`Labeled` in place of each tensor.

    Args:
        call: the call.
        value: its result.
        channels: gets what the call adds to it.

    Raises:
        UserError: for a layer or an operation without a rule, naming it.
    """
    tensors = call.tensors
    from_inputs = call.reads_number or any(tensor.from_inputs for tensor in tensors)
    if all(tensor.is_outside for tensor in tensors) and not isinstance(call.module, (*LAYERS, SplitRecurrent)):
        return label_outside(value, from_inputs)
    rule = _find_rule(call)
    if rule is None:
        raise unknown(call.describe())
    is_average, is_recurrent = _is_average(call), isinstance(call.module, SplitRecurrent)
    results = [
        Labeled(shape, labels, from_inputs, is_average, is_recurrent and labels.shape[0] > 1)
        for shape, labels in zip(call.shapes, pytree.tree_leaves(rule(call, channels)), strict=True)
    ]
    if not all(_fits(result) for result in results):
        raise unknown(f"{call.describe()}, with a result of shape {call.shapes[0]},")
    channels.mixed |= sized_labels(call, pytree.tree_leaves(value), results)
    return pytree.tree_unflatten(results, pytree.tree_structure(value))


def label_outside(value: Any, from_inputs: bool) -> Any:
    """A value that holds no channels, with a :class:`Labeled` in place of each tensor."""
    return pytree.tree_map(
        lambda leaf: Labeled(tuple(leaf.shape), outside(leaf.ndim), from_inputs) if isinstance(leaf, Tensor) else leaf,
        value,
    )


def _fits(result: Labeled) -> bool:
    """Whether the labels broadcast to the shape."""
    return len(result.labels.shape) == len(result.shape) and all(
        length in (1, full) for length, full in zip(result.labels.shape, result.shape, strict=True)
    )


def _find_rule(call: Call) -> Rule | None:
    return FUNCTION_RULES.get(call.name) if call.module is None else rule_of_module(call.module)


def _is_average(call: Call) -> bool:
    """Whether the last axis of the result sums to 1."""
    if call.kind == "softmax":
        axis: Any = call.argument(1, "dim") if call.module is None else getattr(call.module, "dim", None)
        return axis is not None and axis % len(call.source.shape) == len(call.source.shape) - 1
    return call.source.is_average and call.kind in PASSING and len(call.tensors) == 1
