"""Selected inputs in a file: where gathering them costs more than multiplying by zeros, the zeros are written.

Measured by ``python -m experiments.benchmarks.selection`` (record in experiments/benchmarks/results/selection): a layer on k of n inputs and
the same layer on all n, of 48 layers (n 256, 784 and 2,048; 10 to 300 outputs) at batch 256 on one thread of an AMD
EPYC that was not idle, in 15 interleaved turns. What decides is (n - k) * outputs / k, the multiplications that are
saved per gathered input. In onnxruntime gathering takes 0.7 to 21 times as long by medians (0.9 to 16 by minima), about
3 as a rule, where it saves fewer than 400, and 0.7 times or less where it saves more; in PyTorch 0.75 to 2.5 (0.45 to
2.1), about 1.2, where it saves fewer than 20, and 0.93 (1.05) or less, about 0.3, where it saves more.
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
