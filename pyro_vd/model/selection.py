"""Selects the parameters of a network that become random, and refuses those that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from pyro_vd.errors import UserError
from pyro_vd.model.layers import WEIGHT_LAYERS

__all__ = ["OBSERVED", "Select", "Slot", "select_slots"]

Select = Callable[[str, nn.Module, nn.Parameter], bool] | Iterable[str]

PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
OBSERVED = "y"


@dataclass(frozen=True)
class Slot:
    """One selected parameter and its places in the network, more than one if it is tied.

    Attributes:
        parameter: the parameter.
        places: module path and attribute of every place.
    """

    parameter: nn.Parameter
    places: tuple[tuple[str, str], ...]


def select_slots(net: nn.Module, select: Select | None) -> dict[str, Slot]:
    """Site name -> slot of every selected parameter. A tied parameter is selected by any of its names and layers.

    Raises:
        UserError: for a name that is not a parameter's, an empty selection, or a parameter that cannot be random.
    """
    for path, module in net.named_modules():
        _refuse_hidden_weights(path, module, by_default=select is None)
    places = _places(net)
    wanted = _predicate(net, select)
    slots = {}
    for site, parameter in net.named_parameters():
        names = places[id(parameter)]
        if any(wanted(name, net.get_submodule(path), parameter) for name, (path, _) in names.items()):
            for name, (path, attribute) in names.items():
                _refuse_unliftable(name, attribute, net.get_submodule(path), parameter)
            slots[site] = Slot(parameter, _one_per_module(net, names.values()))
    if not slots:
        raise UserError(f"lift: no parameter was selected{_frozen_note(net)}; name some, e.g. select=['fc1.weight']")
    return slots


def _places(net: nn.Module) -> dict[int, dict[str, tuple[str, str]]]:
    """``id`` of a parameter -> its names in the network -> module path and attribute."""
    places: dict[int, dict[str, tuple[str, str]]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        path, _, attribute = name.rpartition(".")
        places.setdefault(id(parameter), {})[name] = (path, attribute)
    return places


def _one_per_module(net: nn.Module, places: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The places, one for each module: a module that is registered under two paths counts once."""
    found = {(id(net.get_submodule(path)), attribute): (path, attribute) for path, attribute in reversed([*places])}
    return tuple(reversed(found.values()))


def _predicate(net: nn.Module, select: Select | None) -> Callable[[str, nn.Module, nn.Parameter], bool]:
    if select is None:
        return lambda name, module, parameter: parameter.requires_grad and _is_weight(module, name.rpartition(".")[2])
    if callable(select):
        return select
    if isinstance(select, str):
        raise UserError(f"lift(select={select!r}): this is one name; give a list of names, select=[{select!r}]")
    chosen = set(select)
    unknown = chosen - {name for name, _ in net.named_parameters(remove_duplicate=False)}
    if unknown:
        raise UserError(f"lift(select=...): the network has no parameter {', '.join(sorted(unknown))}")
    return lambda name, _, __: name in chosen


def _is_weight(module: nn.Module, attribute: str) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return attribute in PROJECTIONS
    return isinstance(module, WEIGHT_LAYERS) and attribute == "weight"


def _frozen_note(net: nn.Module) -> str:
    frozen = [
        name
        for name, parameter in net.named_parameters()
        if not parameter.requires_grad
        and _is_weight(net.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    ]
    return f" ({len(frozen)} weights are frozen, requires_grad=False, and do not change)" if frozen else ""


def _refuse_hidden_weights(path: str, module: nn.Module, by_default: bool) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError(
            f"lift: module {path!r} is TorchScript, which hides its weights; lift the Python module instead"
        )
    if by_default and isinstance(module, WEIGHT_LAYERS) and module._parameters.get("weight") is None:
        raise UserError(
            f"lift: the weight of {path!r} is not a parameter under that name (weight_norm or another parametrization "
            "replaced it); remove the parametrization first, or select parameters by name"
        )


def _refuse_unliftable(name: str, attribute: str, module: nn.Module, parameter: nn.Parameter) -> None:
    reason = None
    if parametrize.is_parametrized(module) or type(module).__module__.endswith("parametrize"):
        reason = "torch.nn.utils.parametrize computes it; remove the parametrization first"
    elif attribute.endswith(("_g", "_v")) and hasattr(module, attribute[:-2]):
        reason = "weight_norm renames it; call torch.nn.utils.remove_weight_norm first"
    elif getattr(module, "max_norm", None) is not None:
        reason = "max_norm changes the embedding in place; make it with max_norm=None"
    elif isinstance(parameter, nn.UninitializedParameter):
        reason = "it is uninitialized; run the lazy module once first"
    elif parameter.dtype not in (torch.float32, torch.float64):
        reason = f"it is {parameter.dtype}; variational parameters need float32 or float64 (use autocast for speed)"
    elif name == OBSERVED:
        reason = "its name is that of the observed site; rename the module or attribute"
    if reason:
        raise UserError(f"lift: parameter {name!r} cannot be random: {reason}")
