"""Running averages of batch normalization, taken again from data."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_vd.data.labeled_images import to_float
from pyro_vd.errors import UserError

__all__ = ["reestimate_batch_norm"]


@torch.no_grad()
def reestimate_batch_norm(net: nn.Module, inputs: Tensor, fixed: Collection[str] = (), batch_size: int = 1000) -> None:
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
    if len(inputs) < 2:
        raise UserError(f"mean: {len(inputs)} inputs have no variance for running averages; give the training set")
    net.eval()  # dropout would add noise
    layers = [module for name, module in net.named_modules() if isinstance(module, _BatchNorm) and name not in fixed]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train().reset_running_stats()
        layer.momentum = None  # the plain average
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).to(inputs.device)
    for index in order.tensor_split(-(-len(inputs) // batch_size)):
        net(to_float(inputs[index]))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
