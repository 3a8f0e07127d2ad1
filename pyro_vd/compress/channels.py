"""Which layers share a channel: what makes it, what carries it, what reads it, by the graph that torch.fx traces.

A channel is a unit of the axis that convolutions, linear layers and batch normalisation call channels or features, axis
1. Element by element, pooling and batch normalisation carry channels; an addition ties those of its terms; flattening
makes of one channel as many features as it has positions. A depthwise convolution makes of each channel a new one, and
the two stay or go together. What can do anything else to a channel is refused by name.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from pyro_vd.compress.selected import SelectedLinear
from pyro_vd.errors import UserError

__all__ = ["LAYERS", "NORMS", "Channels", "channels_of", "is_depthwise"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (nn.Linear, *CONVOLUTIONS)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
POOLS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)
DROPOUTS = (nn.modules.dropout._DropoutNd,)
# One value in, one value out. nn.Threshold and the like with a parameter per channel (PReLU) are not among them.
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
SPREADING = {"softmax", "log_softmax"}  # of a channel all others know: they may be carried but none taken away
RESHAPES = {"flatten", "view", "reshape"}
REMOVALS = {"squeeze", "select", "getitem"}  # of an axis of one


@dataclass
class Channels:
    """Labels of channels, two of which are one where their channels are tied.

    Attributes:
        makers: layer -> labels of its outputs.
        readers: layer -> labels of its inputs; after flattening, one label per channel as often as it has positions.
        offered: layer that selects its inputs -> labels of all that it selects from.
        carriers: batch normalisation -> labels of its channels.
        fixed: labels of the network's inputs and outputs, which have to stay.
        weights: those of the layers so far.
    """

    makers: dict[str, list[int]] = field(default_factory=dict)
    readers: dict[str, list[int]] = field(default_factory=dict)
    offered: dict[str, list[int]] = field(default_factory=dict)
    carriers: dict[str, list[int]] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)
    weights: list[Tensor] = field(default_factory=list)
    _parent: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Of labels."""
        return len(self._parent)

    def fresh(self, count: int) -> list[int]:
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return list(range(first, first + count))

    def tie(self, one: list[int], other: list[int]) -> None:
        for a, b in zip(one, other, strict=True):
            self._parent[self.root(a)] = self.root(b)

    def root(self, label: int) -> int:
        """The label that stands for all that are tied to this one."""
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def settle(self) -> None:
        """Replaces every label by the one that stands for it."""
        for part in (self.makers, self.readers, self.offered, self.carriers):
            for name, labels in part.items():
                part[name] = [self.root(label) for label in labels]
        self.fixed = {self.root(label) for label in self.fixed}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SelectedLinear) or super().is_leaf_module(m, module_qualified_name)


def channels_of(net: nn.Module, inputs: Tensor) -> Channels:
    """Traces ``net`` on a batch of inputs.

    Raises:
        UserError: for a network that torch.fx cannot trace, and for a layer or an operation that is not known to keep
            channels apart, naming it.
    """
    try:
        graph = fx.GraphModule(net, _Tracer().trace(net))
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # ShapeProp prints its tracebacks
            ShapeProp(graph).propagate(inputs.clone())
    except Exception as error:  # whatever the network's own code raises on a tracer's proxies
        raise UserError(f"shrink: {type(net).__name__} cannot be traced by torch.fx ({error})") from None
    channels = Channels()
    labels: dict[fx.Node, list[int]] = {}
    for node in graph.graph.nodes:
        if node.op == "output":
            fx.node.map_arg(node.args, lambda result: channels.fixed.update(labels.get(result, ())))
        elif "tensor_meta" in node.meta and (node.op == "placeholder" or labels.keys() & set(node.all_input_nodes)):
            labels[node] = _labels_after(node, graph, labels, channels)
            # Broadcast, or joined with what has no labels. Where axis 1 is gone, its one channel is left.
            if len(labels[node]) != (*(_shape(node) or (0, 0)), 1)[1]:
                raise _unknown(f"operation {node.name!r}")
    channels.settle()
    return channels


def _labels_after(
    node: fx.Node, graph: fx.GraphModule, labels: dict[fx.Node, list[int]], channels: Channels
) -> list[int]:
    if node.op == "placeholder":
        if len(_shape(node) or ()) < 2:
            raise _unknown(f"an input of shape {_shape(node)}")
        made = channels.fresh(_shape(node)[1])  # type: ignore[index]
        channels.fixed.update(made)
        return made
    sources = [labels[source] for source in node.all_input_nodes if source in labels]
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        rule = _rule_of_module(module)
        if rule is not None and len(sources) == 1:
            return rule(str(node.target), module, node, sources[0], channels)
        raise _unknown(f"layer {node.target!r} ({type(module).__name__})")
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    own = [source for source in node.all_input_nodes if source not in labels and _shape(source) is not None]
    if own and not channels.fixed.issuperset(sources[0]):
        # Beside the network's inputs, whose channels stay, it is harmless: that is how images are normalised.
        raise _unknown(f"{own[0].name!r}, a tensor of the network's own,")
    if name in ("cat", "concat") and not own:
        sources = [labels[source] for source in _listed(node)]  # all_input_nodes has each once
    return _after_function(name, node, sources, channels)


def is_depthwise(layer: nn.Module) -> bool:
    """Whether it is a convolution of each channel by itself, one output for one input."""
    return isinstance(layer, CONVOLUTIONS) and layer.groups == layer.in_channels == layer.out_channels


def _rule_of_module(module: nn.Module) -> Callable[..., list[int]] | None:
    if isinstance(module, LAYERS):
        return _layer
    if isinstance(module, NORMS):
        return _norm
    if isinstance(module, nn.Flatten):
        return lambda name, module, node, source, channels: _flattened(node, source)
    if isinstance(module, nn.Softmax | nn.LogSoftmax):
        return lambda name, module, node, source, channels: _spread(source, channels)
    if isinstance(module, POOLS):
        return lambda name, module, node, source, channels: _pooled(type(module).__name__.lower(), node, source)
    if isinstance(module, (*POINTWISE, *DROPOUTS)):
        return lambda name, module, node, source, channels: source
    return None


def _layer(name: str, layer: nn.Module, node: fx.Node, source: list[int], channels: Channels) -> list[int]:
    if getattr(layer, "groups", 1) != 1 and not is_depthwise(layer):
        raise _unknown(f"layer {name!r} ({type(layer).__name__} with groups={layer.groups})")
    if isinstance(layer, CONVOLUTIONS) and len(_shape(node) or ()) != len(layer.kernel_size) + 2:
        raise _unknown(f"layer {name!r} ({type(layer).__name__} on a single example)")
    if isinstance(layer, nn.Linear) and len(_shape(node) or ()) != 2:
        raise _unknown(f"layer {name!r} (Linear on an input of {len(_shape(node) or ())} axes)")
    _refuse_reuse(name, channels)
    weight = layer.get_parameter("weight")
    if any(weight is other for other in channels.weights):
        raise _unknown(f"layer {name!r}, whose weight is another layer's too,")
    channels.weights.append(weight)
    if isinstance(layer, SelectedLinear):
        channels.offered[name] = source
        source = [source[index] for index in layer.selected.tolist()]
    channels.readers[name] = source
    channels.makers[name] = channels.fresh(len(weight))
    return channels.makers[name]


def _norm(name: str, norm: nn.Module, node: fx.Node, source: list[int], channels: Channels) -> list[int]:
    if not norm.track_running_stats:
        raise _unknown(f"layer {name!r} ({type(norm).__name__} without running averages)")
    _refuse_reuse(name, channels)
    channels.carriers[name] = source
    return source


def _refuse_reuse(name: str, channels: Channels) -> None:
    if name in channels.makers or name in channels.carriers:
        raise _unknown(f"layer {name!r}, which is used more than once and")


def _after_function(name: str, node: fx.Node, sources: list[list[int]], channels: Channels) -> list[int]:
    if _shape(node) is None:
        raise _unknown(f"operation {name!r}, which gives several tensors,")
    if name in REMOVALS and len(sources) == 1 and _removes_axis_1(node):
        return sources[0]
    if name in RESHAPES and len(sources) == 1:
        return _flattened(node, sources[0])
    if name in ("mean", "amax", "squeeze") and len(sources) == 1 and _keeps_axis_1(node):
        return sources[0]
    if name in ("cat", "concat") and 1 in _axes(node, default=0):
        return [label for source in sources for label in source]
    if name in SPREADING and len(sources) == 1:
        return _spread(sources[0], channels)
    if name in POOL_NAMES and len(sources) == 1:
        return _pooled(name, node, sources[0])
    if name in ELEMENTWISE_NAMES and len({len(source) for source in sources}) == 1:
        for other in sources[1:]:
            channels.tie(sources[0], other)
        return sources[0]
    raise _unknown(f"operation {name!r}")


def _flattened(node: fx.Node, source: list[int]) -> list[int]:
    """Labels after a reshape that flattens everything but the batch; row by row, so each is there so many times."""
    before, after = _shape(node.all_input_nodes[0]), _shape(node)
    if before == after or _removes_axis_1(node):
        return source
    if after is None or before is None or len(after) != 2 or after[0] != before[0]:
        raise _unknown(f"operation {node.name!r} from {before} to {after}, no flattening of all but the batch,")
    positions = after[1] // len(source)
    return [label for label in source for _ in range(positions)]


def _removes_axis_1(node: fx.Node) -> bool:
    """Whether it makes (n,) of (n, 1), as a network of one output does for targets (n,)."""
    before, after = _shape(node.all_input_nodes[0]), _shape(node)
    return before is not None and after is not None and before == (*after, 1) and len(after) == 1


def _pooled(name: str, node: fx.Node, source: list[int]) -> list[int]:
    """Labels after a pool, whose name ends in its dimensions: over fewer axes it would pool over the channels."""
    if len(_shape(node.all_input_nodes[0]) or ()) != int(name[-2]) + 2:
        raise _unknown(f"operation {name!r} on an input of shape {_shape(node.all_input_nodes[0])}")
    return source


def _listed(node: fx.Node) -> list[fx.Node]:
    """What a concatenation is of, in its order."""
    return list(node.args[0] if node.args else node.kwargs["tensors"])  # type: ignore[arg-type]


def _spread(source: list[int], channels: Channels) -> list[int]:
    channels.fixed.update(source)
    return source


def _keeps_axis_1(node: fx.Node) -> bool:
    axes = _axes(node)
    return bool(axes) and min(axes) > 1


def _axes(node: fx.Node, default: int | None = None) -> list[int]:
    """The axes that a call names by ``dim``, counted from the first; none where it names none or computes them."""
    rank = len(_shape(node.all_input_nodes[0]) or (1,))
    named: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else default)
    axes = [named] if isinstance(named, int) else list(named or ())
    return [axis % rank for axis in axes if isinstance(axis, int)]


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    """Of the node's value, None where that is no tensor."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return None if shape is None else tuple(shape)


def _unknown(what: str) -> UserError:
    return UserError(f"shrink: {what} is not known to keep channels apart; the network is untouched")
