"""Copies of networks, and a clear error for networks that cannot be copied."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["copy_network"]


def copy_network(net: nn.Module, task: str) -> nn.Module:
    """A deep copy of ``net``.

    Args:
        task: what the copy is for; the first word of the message.

    Raises:
        TypeError: for what is not a network.
        UserError: if PyTorch cannot copy the network, naming the weight that is computed from other tensors. This is so
            under ``torch.nn.utils.prune`` and the older ``torch.nn.utils.weight_norm`` and ``spectral_norm``.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"{task}: net must be an nn.Module, not {type(net).__name__}")
    try:
        return copy.deepcopy(net)
    except Exception as error:  # the network's own modules may raise anything
        named = [
            f"{name}.{key}" if name else key
            for name, module in net.named_modules()
            for key, value in vars(module).items()
            if isinstance(value, Tensor) and not value.is_leaf
        ]
        if not named:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"{task}: {type(net).__name__} cannot be copied: {first}") from error
        raise UserError(
            f"{task}: {named[0]!r} is computed from other tensors and cannot be copied; call "
            "torch.nn.utils.prune.remove or torch.nn.utils.remove_weight_norm first, or use "
            "torch.nn.utils.parametrizations.weight_norm"
        ) from None
