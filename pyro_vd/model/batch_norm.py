"""Running averages of batch normalization, taken again from data."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_vd.data.labeled_images import to_float
from pyro_vd.errors import UserError
from pyro_vd.pytree import Tree, as_tree, call, check_inputs, count, first, take

__all__ = ["reestimate_batch_norm"]


@torch.no_grad()
def reestimate_batch_norm(net: nn.Module, inputs: Tree, fixed: Collection[str] = (), batch_size: int = 1000) -> None:
    """Replaces the running averages of every batch normalization layer by averages over all inputs.

    Batches have equal sizes, because each counts once, and a random order, because examples may be sorted by class.
    The network is left with these layers in training mode and all others in eval mode.

    Args:
        net: changed in place.
        inputs: (n, ...), at least two.
        fixed: names of the modules that keep their running averages.
        batch_size: inputs in one forward pass.

    Raises:
        UserError: for fewer than two inputs.
    """
    inputs = as_tree(inputs)
    check_inputs(inputs, "mean(inputs=...)")
    number = count(inputs)
    if number < 2:
        raise UserError(f"mean: {number} inputs have no variance for running averages; give the training set")
    net.eval()  # dropout would add noise
    layers = [module for name, module in net.named_modules() if isinstance(module, _BatchNorm) and name not in fixed]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train().reset_running_stats()
        layer.momentum = None  # the plain average
    order = torch.randperm(number, generator=torch.Generator().manual_seed(0)).to(first(inputs).device)
    for index in order.tensor_split(-(-number // batch_size)):
        call(net, to_float(take(inputs, index)))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
