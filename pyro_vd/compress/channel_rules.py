"""What each layer and operation does to channels: the labels of its outputs, from those of its inputs.

To let :func:`pyro_vd.compress.shrink` handle another layer or function, add it to one of the constants, or give it a
rule in ``_rule_of_module`` or ``_label_function``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.layers import LAYERS, NORMS, is_depthwise
from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.errors import UserError
from pyro_vd.model.layers import CONVOLUTIONS

__all__ = ["label_outputs", "shape_of", "unknown"]

POOLS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)
DROPOUTS = (nn.modules.dropout._DropoutNd,)
# One value in, one value out. Modules with a parameter per channel, as PReLU, do not belong here.
POINTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Threshold,
)  # fmt: skip
ELEMENTWISE_NAMES = {
    "abs", "add", "add_", "celu", "clamp", "clone", "contiguous", "detach", "div", "dropout", "elu", "exp", "float",
    "gelu", "hardsigmoid", "hardswish", "hardtanh", "iadd", "imul", "isub", "leaky_relu", "mish", "mul", "mul_", "neg",
    "relu", "relu6", "relu_", "selu", "sigmoid", "silu", "softplus", "sqrt", "square", "stochastic_depth", "sub",
    "tanh", "to", "truediv",
}  # fmt: skip
POOL_NAMES = {f"{kind}_pool{dims}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for dims in (1, 2, 3)}
SOFTMAX_NAMES = {"softmax", "log_softmax"}  # every output depends on all channels, so none may be taken away
RESHAPE_NAMES = {"flatten", "view", "reshape"}
REMOVAL_NAMES = {"squeeze", "select", "getitem"}  # these may remove an axis of length 1

Rule = Callable[[str, nn.Module, fx.Node, list[int], Channels], list[int]]


def label_outputs(
    node: fx.Node, graph: fx.GraphModule, labels: Mapping[fx.Node, list[int]], channels: Channels
) -> list[int]:
    """Labels of the channels of the node's value; ``channels`` gets what the node adds to it.

    Args:
        labels: node -> labels of its value, of the nodes before this one whose values come from the inputs.

    Raises:
        UserError: for a layer or an operation that is not known to keep channels apart, naming it.
    """
    if node.op == "placeholder":
        shape = shape_of(node) or ()
        if len(shape) < 2:
            raise unknown(f"an input of shape {shape_of(node)}")
        made = channels.labels.make(shape[1])
        channels.protected.update(made)
        return made
    sources = [labels[source] for source in node.all_input_nodes if source in labels]
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        rule = _rule_of_module(module)
        if rule is not None and len(sources) == 1:
            return rule(str(node.target), module, node, sources[0], channels)
        raise unknown(f"layer {node.target!r} ({type(module).__name__})")
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    constants = [source for source in node.all_input_nodes if source not in labels and shape_of(source) is not None]
    if constants and not channels.protected.issuperset(sources[0]):
        # It is harmless with the network's inputs, whose channels stay: images are normalized in this way.
        raise unknown(f"{constants[0].name!r}, a tensor of the network's own,")
    if name in ("cat", "concat") and not constants:
        sources = [labels[source] for source in _concatenated(node)]  # all_input_nodes has each node once
    return _label_function(name, node, sources, channels)


def _rule_of_module(module: nn.Module) -> Rule | None:
    if isinstance(module, LAYERS):
        return _label_layer
    if isinstance(module, NORMS):
        return _label_norm
    if isinstance(module, nn.Flatten):
        return lambda name, module, node, source, channels: _flatten(node, source)
    if isinstance(module, nn.Softmax | nn.LogSoftmax):
        return lambda name, module, node, source, channels: _protect(source, channels)
    if isinstance(module, POOLS):
        return lambda name, module, node, source, channels: _pool(type(module).__name__.lower(), node, source)
    if isinstance(module, (*POINTWISE, *DROPOUTS)):
        return lambda name, module, node, source, channels: source
    return None


def _label_layer(name: str, layer: nn.Module, node: fx.Node, source: list[int], channels: Channels) -> list[int]:
    axes = len(shape_of(node) or ())
    if isinstance(layer, CONVOLUTIONS) and layer.groups != 1 and not is_depthwise(layer):
        raise unknown(f"layer {name!r} ({type(layer).__name__} with groups={layer.groups})")
    if isinstance(layer, CONVOLUTIONS) and axes != len(layer.kernel_size) + 2:
        raise unknown(f"layer {name!r} ({type(layer).__name__} on a single example)")
    if isinstance(layer, nn.Linear) and axes != 2:
        raise unknown(f"layer {name!r} (Linear on an input of {axes} axes)")
    _refuse_reuse(name, channels)
    weight = layer.get_parameter("weight")
    if any(weight is other for other in channels.weights):
        raise unknown(f"layer {name!r}, whose weight is another layer's too,")
    channels.weights.append(weight)
    if isinstance(layer, SelectedLinear):
        channels.selectable[name] = source
        source = [source[index] for index in layer.selected.tolist()]
    channels.consumers[name] = source
    channels.producers[name] = channels.labels.make(len(weight))
    return channels.producers[name]


def _label_norm(name: str, norm: nn.Module, node: fx.Node, source: list[int], channels: Channels) -> list[int]:
    if not norm.track_running_stats:
        raise unknown(f"layer {name!r} ({type(norm).__name__} without running averages)")
    _refuse_reuse(name, channels)
    channels.norms[name] = source
    return source


def _refuse_reuse(name: str, channels: Channels) -> None:
    if name in channels.producers or name in channels.norms:
        raise unknown(f"layer {name!r}, which is used more than once and")


def _label_function(name: str, node: fx.Node, sources: list[list[int]], channels: Channels) -> list[int]:
    if shape_of(node) is None:
        raise unknown(f"operation {name!r}, which gives several tensors,")
    if name in REMOVAL_NAMES and len(sources) == 1 and _removes_axis_1(node):
        return sources[0]
    if name in RESHAPE_NAMES and len(sources) == 1:
        return _flatten(node, sources[0])
    if name in ("mean", "amax", "squeeze") and len(sources) == 1 and _keeps_axis_1(node):
        return sources[0]
    if name in ("cat", "concat") and 1 in _axes(node, default=0):
        return [label for source in sources for label in source]
    if name in SOFTMAX_NAMES and len(sources) == 1:
        return _protect(sources[0], channels)
    if name in POOL_NAMES and len(sources) == 1:
        return _pool(name, node, sources[0])
    if name in ELEMENTWISE_NAMES and len({len(source) for source in sources}) == 1:
        for other in sources[1:]:
            channels.union(sources[0], other)
        return sources[0]
    raise unknown(f"operation {name!r}")


def _flatten(node: fx.Node, source: list[int]) -> list[int]:
    """Labels after a reshape that flattens all axes but the batch. A label is repeated for each position."""
    before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
    if before == after or _removes_axis_1(node):
        return source
    if after is None or before is None or len(after) != 2 or after[0] != before[0]:
        raise unknown(f"operation {node.name!r} from {before} to {after}, which does not flatten all but the batch,")
    positions = after[1] // len(source)
    return [label for label in source for _ in range(positions)]


def _removes_axis_1(node: fx.Node) -> bool:
    """Whether the node turns (n, 1) into (n,), as a network of one output does for targets (n,)."""
    before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
    return before is not None and after is not None and before == (*after, 1) and len(after) == 1


def _pool(name: str, node: fx.Node, source: list[int]) -> list[int]:
    """Labels after a pool. Its name ends in its number of dimensions; on fewer axes it would pool over channels."""
    if len(shape_of(node.all_input_nodes[0]) or ()) != int(name[-2]) + 2:
        raise unknown(f"operation {name!r} on an input of shape {shape_of(node.all_input_nodes[0])}")
    return source


def _concatenated(node: fx.Node) -> list[fx.Node]:
    """The parts of a concatenation, in order; a node may be there several times."""
    parts: Any = node.args[0] if node.args else node.kwargs["tensors"]
    return list(parts)


def _protect(source: list[int], channels: Channels) -> list[int]:
    channels.protected.update(source)
    return source


def _keeps_axis_1(node: fx.Node) -> bool:
    axes = _axes(node)
    return bool(axes) and min(axes) > 1


def _axes(node: fx.Node, default: int | None = None) -> list[int]:
    """The axes that a call names by ``dim``, counted from the first; empty if it names none or computes them."""
    rank = len(shape_of(node.all_input_nodes[0]) or (1,))
    named: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else default)
    axes = [named] if isinstance(named, int) else list(named or ())
    return [axis % rank for axis in axes if isinstance(axis, int)]


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of the node's value; None if it is not a tensor."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return None if shape is None else tuple(shape)


def unknown(what: str) -> UserError:
    """The error for a layer or an operation without a rule."""
    return UserError(f"shrink: {what} is not known to keep channels apart; the network is untouched")
