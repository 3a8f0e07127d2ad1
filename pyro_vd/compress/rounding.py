"""The rounding error of a network: how far its outputs are from those of the same network in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_vd.compress.copies import copy_network
from pyro_vd.pytree import Tree, as_tree, call, leaves, map_leaves

__all__ = ["ROUNDING_FACTOR", "outputs_in_float64"]

ROUNDING_FACTOR = 8  # a sum in another order rounds differently: a sequential one several times more than a blocked one


@torch.no_grad()
def outputs_in_float64(net: nn.Module, inputs: Tree) -> list[Tensor] | None:
    """Outputs of a copy of ``net`` in float64 and eval mode on the CPU, one or several.

    None if the network does not run in float64, for example because its code makes tensors of a fixed type.
    """
    doubled = copy_network(net, "rounding").cpu().eval().double()
    try:
        found = call(doubled, map_leaves(_to_float64, inputs))
    except Exception:  # the network's own code may raise anything at another type
        return None
    outputs = [output for output in leaves(as_tree(found)) if output is not None]
    is_double = all(isinstance(output, Tensor) and output.dtype == torch.float64 for output in outputs)
    return outputs if is_double else None


def _to_float64(value: Tensor) -> Tensor:
    return value.cpu().double() if value.is_floating_point() else value.cpu().clone()
