"""Calls of operations on labeled tensors, so that tests can apply one rule at a time."""

import torch
from torch import fx

from pyro_vd.compress.channels import Channels
from pyro_vd.compress.rules.apply import label_outputs
from pyro_vd.compress.rules.calls import Call, operation_name
from pyro_vd.compress.rules.labels import Labeled, outside


def channels_on(axis, *shape):
    """New channels, and a tensor of this shape that has one of them at each place of the axis."""
    channels = Channels()
    return channels, make_on(channels, axis, *shape)


def make_on(channels, axis, *shape):
    """A tensor with new channels along an axis."""
    labels = torch.tensor(channels.labels.make(shape[axis]))
    return Labeled(shape, labels.view([-1 if index == axis else 1 for index in range(len(shape))]))


def without_channels(*shape, from_inputs=True):
    return Labeled(shape, outside(len(shape)), from_inputs)


def label(function, channels, *args):
    """The labels of ``function`` of these arguments, whose code may hold numbers and -1."""
    graph = fx.Graph()
    nodes = {}
    for arg in args:
        if isinstance(arg, Labeled):
            nodes[id(arg)] = graph.placeholder(f"x{len(nodes)}")
    tracer = fx.proxy.GraphAppendingTracer(graph)
    function(*[fx.Proxy(nodes[id(arg)], tracer) if isinstance(arg, Labeled) else arg for arg in args])
    labeled = {nodes[id(arg)]: arg for arg in args if isinstance(arg, Labeled)}
    values = {node: torch.zeros(arg.shape) for node, arg in labeled.items()}
    for node in graph.nodes:
        if node.op in ("call_function", "call_method"):
            run = fx.node.map_arg((node.args, node.kwargs), lambda other: values[other])
            target = node.target if node.op == "call_function" else getattr(torch.Tensor, node.target)
            values[node] = target(*run[0], **run[1])
            known = fx.node.map_arg((node.args, node.kwargs), lambda other: labeled[other])
            if isinstance(values[node], int | torch.Size):
                labeled[node] = values[node]
                continue
            results = values[node] if isinstance(values[node], tuple | list) else [values[node]]
            call = Call(operation_name(node), node, None, *known, [tuple(result.shape) for result in results])
            labeled[node] = label_outputs(call, values[node], channels)
    return labeled[node]
