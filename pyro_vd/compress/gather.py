"""Chooses how an exported file holds a layer with selected inputs: it gathers them, or multiplies all by zeros too.

The faster form depends on (n - k) * outputs / k, the multiplications saved per gathered input, for a layer that reads k
of n inputs. It was measured by ``python -m experiments.benchmarks.selection``; the record is in
experiments/benchmarks/results/selection. Both forms of 48 layers (n = 256, 784 and 2,048; 10 to 300 outputs) were timed
at batch size 256 on one thread of an AMD EPYC that was not idle, in 15 interleaved turns.

- onnxruntime: below 400 saved multiplications, gathering takes 0.7 to 21 times as long by medians (0.9 to 16 by
  minima), usually about 3 times; above 400, it takes at most 0.7 times as long.
- PyTorch: below 20, gathering takes 0.75 to 2.5 times as long (0.45 to 2.1), usually about 1.2 times; above 20, it
  takes at most 0.93 times as long (1.05), usually about 0.3 times.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.pytree import Tree, call, map_leaves

__all__ = ["ONNXRUNTIME_GATHER_COST", "PYTORCH_GATHER_COST", "widen"]

# Multiplications as expensive as gathering one input.
ONNXRUNTIME_GATHER_COST = 400
PYTORCH_GATHER_COST = 20


@torch.no_grad()
def widen(net: nn.Module, inputs: Tree, gather_cost: int) -> None:
    """Replaces each :class:`SelectedLinear` by a linear layer with zeros, in place, if that is faster.

    Args:
        net: the network.
        inputs: a batch of its inputs, on which it is run to find how many inputs a layer selects from.
        gather_cost: multiplications as expensive as gathering one input.
    """
    widths: dict[str, int] = {}

    def record(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        widths[name] = args[0].shape[-1]

    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, SelectedLinear)}
    hooks = [layer.register_forward_pre_hook(partial(record, name)) for name, layer in layers.items()]
    try:
        call(net, map_leaves(torch.clone, inputs))
    finally:
        for hook in hooks:
            hook.remove()
    for name, width in widths.items():
        layer = layers[name]
        if (width - layer.in_features) * layer.out_features < gather_cost * layer.in_features:
            net.set_submodule(name, _to_linear(layer, width))


def _to_linear(layer: SelectedLinear, width: int) -> nn.Linear:
    """The same function as a linear layer on all ``width`` inputs."""
    linear = nn.Linear(width, layer.out_features, layer.bias is not None, device="meta").to_empty(device="cpu")
    linear = linear.to(layer.weight)
    linear.weight.zero_()[:, layer.selected] = layer.weight
    if layer.bias is not None:
        linear.bias.copy_(layer.bias)
    return linear.eval()
