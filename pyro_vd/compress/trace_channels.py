"""Finds which layers share a channel, in the graph that torch.fx traces.

Elementwise operations, pooling and batch normalization pass channels on. An addition merges the channels of its terms.
Flattening repeats a channel once for each of its positions. A grouped convolution makes new channels of those of each
group, and the two stay or go together. Any operation that is in no table is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from pyro_vd.compress.attention import SplitAttention
from pyro_vd.compress.channels import Channels
from pyro_vd.compress.recurrent import SplitRecurrent
from pyro_vd.compress.rules.apply import label_outputs, label_outside
from pyro_vd.compress.rules.calls import Call, operation_name, unknown
from pyro_vd.compress.rules.labels import Labeled
from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.compress.transformer_forward import TRACEABLE
from pyro_vd.errors import UserError
from pyro_vd.pytree import Tree, bind, map_leaves

__all__ = ["trace_channels"]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if type(m) in TRACEABLE:
            return False
        return isinstance(m, SelectedLinear | SplitRecurrent) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        written = TRACEABLE.get(type(m))
        return super().call_module(m, partial(written, m) if written else forward, args, kwargs)


class _Labeler(fx.Interpreter):
    """Runs a graph on a batch, and labels the tensors of all its nodes."""

    def __init__(self, graph: fx.GraphModule):
        super().__init__(graph)
        self.channels = Channels()
        self.labeled: dict[fx.Node, Any] = {}
        self.read: set[int] = set()  # ids of parameters and buffers that the network's own code reads

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op in ("placeholder", "get_attr"):
            self.labeled[n] = label_outside(value, from_inputs=n.op == "placeholder")
            self.read.add(id(value))
        elif n.op == "output":
            for leaf in pytree.tree_leaves(self._with_labels(n.args)):
                if isinstance(leaf, Labeled):
                    self.channels.protect(leaf.labels)
        else:
            self.labeled[n] = self._label(n, value)
        return value

    def _label(self, n: fx.Node, value: Any) -> Any:
        args, kwargs = self._with_labels(n.args), self._with_labels(n.kwargs)
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        name = operation_name(n)
        tensors = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
        reads_number = any(isinstance(self.labeled[other], int | float) for other in n.all_input_nodes)
        call = Call(name, n, module, args, kwargs, [tuple(tensor.shape) for tensor in tensors], reads_number)
        if name == "getitem" and not isinstance(args[0], Labeled):
            return args[0][args[1]]
        if value is None and call.tensors:
            raise unknown(f"{call.describe()}, which gives nothing,")  # it may have written to a tensor
        if not tensors:
            return value
        return label_outputs(call, value, self.channels)

    def _with_labels(self, args: Any) -> Any:
        return fx.node.map_arg(args, lambda node: self.labeled[node])


def trace_channels(net: nn.Module, inputs: Tree) -> Channels:
    """Traces ``net`` on a batch of inputs.

    Raises:
        UserError: for a network that torch.fx cannot trace, and for a layer or an operation that is not known to keep
            channels apart, naming it.
    """
    try:
        labeler = _Labeler(fx.GraphModule(net, _Tracer().trace(net)))
        labeler.extra_traceback = False
        with torch.no_grad():
            labeler.run(*_arguments(net, inputs))
    except UserError:
        raise
    except Exception as error:  # the network's own code may raise anything on a tracer's proxies
        raise UserError(
            f"shrink: {type(net).__name__} cannot be traced by torch.fx ({error}); let no branch and no loop depend on "
            "the values or the sizes of tensors"
        ) from None
    _protect_read(net, labeler)
    _join_projections(net, labeler.channels)
    labeler.channels.replace_by_representatives()
    return labeler.channels


def _arguments(net: nn.Module, inputs: Tree) -> tuple[Any, ...]:
    """Copies of the inputs, as positional arguments in the order of the graph's."""
    bound = bind(net, map_leaves(torch.clone, inputs))
    bound.apply_defaults()
    return (*bound.args, *bound.kwargs.values())


def _protect_read(net: nn.Module, labeler: _Labeler) -> None:
    """Keeps all channels of a layer whose tensors the network's own code reads too, as that of tied outputs."""
    channels = labeler.channels
    for name in {*channels.producers, *channels.norms}:
        module = net.get_submodule(name)
        if any(id(tensor) in labeler.read for tensor in (*module.parameters(), *module.buffers())):
            for part in (channels.producers, channels.consumers, channels.norms):
                channels.protected.update(part.get(name, []))


def _join_projections(net: nn.Module, channels: Channels) -> None:
    """Queries, keys and values of attention read the same inputs: one tensor holds the three weights."""
    for name, module in net.named_modules():
        if isinstance(module, SplitAttention) and f"{name}.query" in channels.consumers:
            for part in ("key", "value"):
                channels.union(channels.consumers[f"{name}.query"], channels.consumers[f"{name}.{part}"])
