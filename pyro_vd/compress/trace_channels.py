"""Finds which layers share a channel, in the graph that torch.fx traces.

Elementwise operations, pooling and batch normalization pass channels on. An addition merges the channels of its terms.
Flattening repeats a channel once for each of its positions. A depthwise convolution makes a new channel of each
channel, and the two stay or go together. Any other operation is refused by name.
"""

from __future__ import annotations

import contextlib
import io

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from pyro_vd.compress.channel_rules import label_outputs, shape_of, unknown
from pyro_vd.compress.channels import Channels
from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.errors import UserError

__all__ = ["trace_channels"]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SelectedLinear) or super().is_leaf_module(m, module_qualified_name)


def trace_channels(net: nn.Module, inputs: Tensor) -> Channels:
    """Traces ``net`` on a batch of inputs.

    Raises:
        UserError: for a network that torch.fx cannot trace, and for a layer or an operation that is not known to keep
            channels apart, naming it.
    """
    graph = _trace(net, inputs)
    channels = Channels()
    labels: dict[fx.Node, list[int]] = {}
    for node in graph.graph.nodes:
        if node.op == "output":
            fx.node.map_arg(node.args, lambda result: channels.protected.update(labels.get(result, ())))
        elif "tensor_meta" in node.meta and (node.op == "placeholder" or labels.keys() & set(node.all_input_nodes)):
            labels[node] = label_outputs(node, graph, labels, channels)
            # They differ after broadcasting, or a join with an unlabeled tensor. Without axis 1, one channel is left.
            if len(labels[node]) != (*(shape_of(node) or (0, 0)), 1)[1]:
                raise unknown(f"operation {node.name!r}")
    channels.replace_by_representatives()
    return channels


def _trace(net: nn.Module, inputs: Tensor) -> fx.GraphModule:
    """The network's graph, with the shapes of all values on these inputs."""
    try:
        graph = fx.GraphModule(net, _Tracer().trace(net))
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # ShapeProp prints its tracebacks
            ShapeProp(graph).propagate(inputs.clone())
    except Exception as error:  # the network's own code may raise anything on a tracer's proxies
        raise UserError(f"shrink: {type(net).__name__} cannot be traced by torch.fx ({error})") from None
    return graph
