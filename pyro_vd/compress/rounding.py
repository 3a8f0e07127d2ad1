"""A network's own rounding: how far its outputs are from those of the same network in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_vd.compress.copies import copy_of

__all__ = ["ROUNDINGS", "outputs_in_float64"]

ROUNDINGS = 8  # times: sums in another order round differently, sequential ones several times more than blocked ones


@torch.no_grad()
def outputs_in_float64(net: nn.Module, inputs: Tensor) -> Tensor | None:
    """Outputs of a copy of ``net`` in float64 and eval mode on the CPU; None where it does not run in float64, as one
    whose code makes tensors of a fixed type."""
    doubled = copy_of(net, "rounding").cpu().eval().double()
    inputs = inputs.cpu()
    try:
        outputs = doubled(inputs.double() if inputs.is_floating_point() else inputs.clone())
    except Exception:  # whatever the network's own code raises at another type
        return None
    return outputs if isinstance(outputs, Tensor) and outputs.dtype == torch.float64 else None
