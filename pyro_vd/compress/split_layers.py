"""Attention and recurrent layers as linear layers, and back."""

from __future__ import annotations

from torch import nn

from pyro_vd.compress.attention import SplitAttention
from pyro_vd.compress.recurrent import SplitRecurrent
from pyro_vd.errors import UserError

__all__ = ["SPLIT_LAYERS", "merge_layers", "split_layers"]

SPLIT_LAYERS = (SplitAttention, SplitRecurrent)


def split_layers(net: nn.Module) -> dict[str, nn.Module]:
    """Puts linear layers in the place of the network's attention and recurrent layers, in place.

    Returns:
        The layers that were replaced, by name, for :func:`merge_layers`.

    Raises:
        UserError: for a layer of a form that shrink does not know, naming it.
    """
    replaced: dict[str, nn.Module] = {}
    if isinstance(net, nn.RNNBase | nn.MultiheadAttention):
        raise UserError(f"shrink: the network is a single layer, {type(net).__name__}; give it a module that holds it")
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.RNNBase):
            if module.proj_size:
                raise UserError(
                    f"shrink: layer {name!r} ({type(module).__name__} with proj_size={module.proj_size}) is not known "
                    "to keep channels apart; put a Linear after it instead; the network is untouched"
                )
            replaced[name] = module
            _set(net, name, SplitRecurrent(module))
        elif isinstance(module, nn.MultiheadAttention):
            replaced[name] = module
            _set(net, name, SplitAttention(name, module))
    return replaced


def merge_layers(net: nn.Module, replaced: dict[str, nn.Module]) -> None:
    """Puts the layers back, at their new sizes, in place."""
    for name, module in replaced.items():
        split = net.get_submodule(name)
        assert isinstance(split, SPLIT_LAYERS)
        _set(net, name, split.merge_into(module))  # type: ignore[arg-type]


def _set(net: nn.Module, name: str, module: nn.Module) -> None:
    net.set_submodule(name, module.eval())
