"""The rounding error of a network: how far its outputs are from those of the same network in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_vd.compress.copies import copy_network

__all__ = ["ROUNDING_FACTOR", "outputs_in_float64"]

ROUNDING_FACTOR = 8  # a sum in another order rounds differently: a sequential one several times more than a blocked one


@torch.no_grad()
def outputs_in_float64(net: nn.Module, inputs: Tensor) -> Tensor | None:
    """Outputs of a copy of ``net`` in float64 and eval mode on the CPU.

    None if the network does not run in float64, for example because its code makes tensors of a fixed type.
    """
    doubled = copy_network(net, "rounding").cpu().eval().double()
    inputs = inputs.cpu()
    try:
        outputs = doubled(inputs.double() if inputs.is_floating_point() else inputs.clone())
    except Exception:  # the network's own code may raise anything at another type
        return None
    return outputs if isinstance(outputs, Tensor) and outputs.dtype == torch.float64 else None
