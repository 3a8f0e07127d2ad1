"""Which lengths of a module's tensors :func:`pyro_vd.compress.shrink` may change, and which of them belong together."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from pyro_vd.compress.layers import CHANNELWISE, EMBEDDINGS, LAYERS
from pyro_vd.compress.recurrent import GATES
from pyro_vd.model.layers import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS

__all__ = ["Size", "is_resizable", "tensor_sizes"]


class Size(NamedTuple):
    """The length of an axis: ``multiple`` times a number of units.

    Attributes:
        units: what is counted; equal names in one module are equal numbers.
        multiple: entries of each unit.
    """

    units: str
    multiple: int = 1


Sizes = dict[str, tuple[Size | None, ...]]
IN, OUT = Size("inputs"), Size("outputs")


def is_resizable(module: nn.Module) -> bool:
    """Whether shrinking may change the sizes of this module."""
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return False  # a part of attention, which counts its tensors
    if isinstance(module, LAYERS):
        return module._parameters.get("weight") is not None  # None under a parametrization
    return isinstance(module, (*CHANNELWISE, nn.RNNBase, nn.MultiheadAttention))


def tensor_sizes(module: nn.Module) -> Sizes:
    """Name -> the sizes of its axes, of each tensor of ``module`` and those that shrinking may add.

    None stands for a length that does not change, as do the axes after the last one.
    """
    sized: Any = module
    if isinstance(module, nn.Linear):
        return {"weight": (OUT, IN), "bias": (OUT,), "selected": (IN,)}
    if isinstance(module, EMBEDDINGS):
        return {"weight": (None, OUT)}
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)):
        return _sizes_of_convolution(sized)
    if isinstance(module, nn.RNNBase):
        return _sizes_of_recurrent(module)
    if isinstance(module, nn.MultiheadAttention):
        heads, packed = Size("heads", sized.head_dim), Size("heads", 3 * sized.head_dim)
        return {
            "in_proj_weight": (packed, IN), "in_proj_bias": (packed,), "out_proj.weight": (OUT, heads),
            "out_proj.bias": (OUT,),
        }  # fmt: skip
    size = Size("groups", sized.num_channels // sized.num_groups) if isinstance(module, nn.GroupNorm) else OUT
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return {}
    return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (size,))


def _sizes_of_convolution(layer: Any) -> Sizes:
    group = Size("groups", layer.in_channels // layer.groups), Size("groups", layer.out_channels // layer.groups)
    inputs, outputs = group if layer.groups > 1 else (IN, OUT)
    if isinstance(layer, TRANSPOSED_CONVOLUTIONS):
        return {"weight": (inputs, None if layer.groups > 1 else outputs), "bias": (outputs,)}
    return {"weight": (outputs, None if layer.groups > 1 else inputs), "bias": (outputs,)}


def _sizes_of_recurrent(net: nn.RNNBase) -> Sizes:
    hidden, gates = Size("hidden"), Size("hidden", GATES[net.mode])
    sizes: Sizes = {}
    for level in range(net.num_layers):
        inputs = Size("hidden", 1 + net.bidirectional) if level else IN
        for suffix in (f"l{level}", f"l{level}_reverse")[: 1 + net.bidirectional]:
            sizes |= {f"weight_ih_{suffix}": (gates, inputs), f"weight_hh_{suffix}": (gates, hidden)}
            sizes |= {f"bias_ih_{suffix}": (gates,), f"bias_hh_{suffix}": (gates,)}
    return sizes
