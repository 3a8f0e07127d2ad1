"""Selected inputs in a file: where gathering them costs more than multiplying by zeros, the zeros are written.

Measured by ``python -m benchmarks.selection`` (record in benchmarks/results/selection): a layer on k of n inputs against
the same layer on all n. What decides is (n - k) * outputs / k, the multiplications saved per gathered input. Of 48 layers
(n 256, 784 and 2,048; 10 to 300 outputs; batch 256; one thread of 2 cores of an AMD EPYC, not idle; medians of 15
interleaved turns) gathering took in onnxruntime 1.0 to 21 times as long at 200 to 300 and less, but for two layers, and
0.7 times or less from 599 on; in PyTorch 0.8 to 2.5 times as long up to 13 and 0.1 to 0.9 times from 40 on.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pyro_vd.compress.selected import SelectedLinear

__all__ = ["ONNXRUNTIME", "PYTORCH", "widen"]

ONNXRUNTIME, PYTORCH = 400, 20  # multiplications per gathered input from which on gathering is faster


@torch.no_grad()
def widen(net: nn.Module, inputs: Tensor, cost: int) -> None:
    """Puts linear layers with zeros, in place, where selecting saves fewer than ``cost`` multiplications an input."""
    widths: dict[str, int] = {}

    def watch(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        widths[name] = args[0].shape[-1]

    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, SelectedLinear)}
    hooks = [layer.register_forward_pre_hook(partial(watch, name)) for name, layer in layers.items()]
    try:
        net(inputs.clone())
    finally:
        for hook in hooks:
            hook.remove()
    for name, width in widths.items():
        layer = layers[name]
        if (width - layer.in_features) * layer.out_features < cost * layer.in_features:
            net.set_submodule(name, _widened(layer, width))


def _widened(layer: SelectedLinear, width: int) -> nn.Linear:
    whole = nn.utils.skip_init(nn.Linear, width, layer.out_features, layer.bias is not None).to(layer.weight)
    whole.weight.zero_()[:, layer.selected] = layer.weight
    if layer.bias is not None:
        whole.bias.copy_(layer.bias)
    return whole.eval()
