"""count_multiplications: the cost of a forward pass, which does not depend on a machine."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.model.eval_mode import eval_mode
from pyro_vd.model.layers import TRANSPOSED_CONVOLUTIONS, WEIGHT_LAYERS
from pyro_vd.pytree import Tree, as_tree, call, count, map_leaves

__all__ = ["count_multiplications"]


@torch.no_grad()
def count_multiplications(net: nn.Module, inputs: Tree, sparse: bool = False) -> int:
    """Multiplications of the forward pass of one input in linear and convolution layers, zeros included.

    Other layers, and products that the network's own code makes, are not counted.

    Args:
        net: the network; it is run once, in eval mode.
        inputs: a batch of inputs; its size does not matter.
        sparse: count only the weights of linear layers that are not 0, as sparse matrices do.

    Raises:
        UserError: for inputs of no example.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 3))
        >>> count_multiplications(net, torch.randn(5, 1, 4, 4))  # 2 * 9 weights at 16 positions, and 32 * 3
        384
    """
    inputs = as_tree(inputs)
    if not count(inputs):
        raise UserError("count_multiplications: the inputs hold no example; give at least one")
    counts: list[int] = []

    def add(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        places = given[0] if isinstance(layer, TRANSPOSED_CONVOLUTIONS) else output
        used = int(weight.count_nonzero()) if sparse and isinstance(layer, nn.Linear) else weight.numel()
        counts.append(places.numel() // len(weight) * used)

    hooks = [layer.register_forward_hook(add) for layer in net.modules() if isinstance(layer, WEIGHT_LAYERS)]
    try:
        with eval_mode(net):
            call(net, map_leaves(torch.clone, inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts) // count(inputs)
