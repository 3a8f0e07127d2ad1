"""Filling a network with the tensors of a smaller one of its class: what may differ, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pyro_vd.compress.channels import LAYERS, NORMS, is_depthwise
from pyro_vd.compress.coding import Note
from pyro_vd.compress.selected import SelectedLinear
from pyro_vd.compress.shrink import set_sizes

__all__ = ["fill", "largest_shapes", "wrong_values", "wrong_with"]

SIZED = ("weight", "bias", "running_mean", "running_var")  # of one length in a layer: its outputs, or its channels


def largest_shapes(net: nn.Module) -> dict[str, Note]:
    """Name -> the largest shape, and the dtype, of every tensor that ``net`` or a smaller network of its class has."""
    own = {name: Note(tuple(tensor.shape), tensor.dtype, None) for name, tensor in net.state_dict().items()}
    return own | {name: note for name, note in _optional(net) if name not in own}


def _optional(net: nn.Module) -> Iterator[tuple[str, Note]]:
    """What shrinking may add: biases that constants went into, and indices of selected inputs."""
    for prefix, module in _layers(net):
        if isinstance(module, LAYERS):
            weight = module.get_parameter("weight")
            yield f"{prefix}bias", Note(tuple(weight.shape[:1]), weight.dtype, None)
            if isinstance(module, nn.Linear) and prefix:  # a network that is a layer has no place for another one
                yield f"{prefix}selected", Note(tuple(weight.shape[1:]), torch.int64, None)


def wrong_with(net: nn.Module, stored: Mapping[str, Note]) -> list[str]:
    """What keeps tensors of these shapes and dtypes from being those of ``net`` or a smaller network of its class."""
    own, largest = net.state_dict(keep_vars=True), largest_shapes(net)
    wrong = [f"no {name}" for name in own.keys() - stored.keys()]
    wrong += [f"unexpected {name}" for name in stored.keys() - largest.keys()]
    sizes = dict(_free_dimensions(net))
    names: dict[int, int] = {}
    for tensor in own.values():
        names[id(tensor)] = names.get(id(tensor), 0) + 1
    for name in stored.keys() & largest.keys():
        mine, given = largest[name], stored[name]
        is_tied = name in own and names[id(own[name])] > 1
        free = 0 if is_tied else sizes.get(name, 0)
        if given.dtype != mine.dtype or not _fits(given.shape, mine.shape, free):
            wrong.append(f"{name} is {given.shape} {given.dtype}, expected {mine.shape} {mine.dtype}")
    return wrong or _unequal_lengths(net, stored)


def wrong_values(net: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """What keeps these tensors, of shapes and dtypes that fit, from being those of a network like ``net``."""
    own = net.state_dict(keep_vars=True)
    firsts: dict[int, str] = {}
    wrong = []
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()) and not (name in own and not bool(own[name].isfinite().all())):
            wrong.append(f"{name} holds NaN or infinite numbers")
        if name.rpartition(".")[2] == "running_var" and bool((tensor < 0).any()):
            wrong.append(f"{name} holds negative variances")
        if name in own:
            first = firsts.setdefault(id(own[name]), name)
            if tensors[first] is not tensor and not torch.equal(tensors[first], tensor):
                wrong.append(f"{first} and {name}, one tensor in this network, differ")
    for prefix, module in _layers(net):
        selected = tensors.get(f"{prefix}selected")
        if selected is not None and isinstance(module, nn.Linear):
            offered = int(module.selected.max()) + 1 if isinstance(module, SelectedLinear) else module.in_features
            inside = bool(((selected >= 0) & (selected < offered)).all())
            if not inside or not bool((selected.diff() > 0).all()):
                wrong.append(f"{prefix}selected are not ascending inputs below {offered}")
    return wrong


def fill(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives the layers of ``net`` the sizes of the tensors, and their values. What keeps its size keeps its parameter,
    and with it its ties."""
    for prefix, module in _layers(net):
        _resize(net, prefix, module, tensors)
    net.load_state_dict(tensors)


def _layers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """Prefix of its tensors' names -> layer, of those that shrinking may make smaller."""
    return [(f"{name}." if name else "", module) for name, module in net.named_modules() if _resizable(module)]


def _resizable(module: nn.Module) -> bool:
    if not isinstance(module, LAYERS) or module._parameters.get("weight") is None:  # a parametrization has it
        return isinstance(module, NORMS)
    return getattr(module, "groups", 1) == 1 or is_depthwise(module)


def _free_dimensions(net: nn.Module) -> Iterator[tuple[str, int]]:
    """Of every tensor that may be smaller: how many of its first dimensions may."""
    for prefix, module in _layers(net):
        for key in SIZED:
            yield f"{prefix}{key}", 1
        yield f"{prefix}selected", 1
        if isinstance(module, LAYERS) and not is_depthwise(module):
            yield f"{prefix}weight", 2


def _fits(given: tuple[int, ...], largest: tuple[int, ...], free: int) -> bool:
    if len(given) != len(largest) or given[free:] != largest[free:]:
        return False
    return all(a == b or 0 < a <= b for a, b in zip(given[:free], largest[:free], strict=True))


def _unequal_lengths(net: nn.Module, stored: Mapping[str, Note]) -> list[str]:
    wrong = []
    for prefix, module in _layers(net):
        found = {key: stored[prefix + key].shape for key in SIZED if prefix + key in stored}
        weight, selected = found.get("weight", ()), stored.get(f"{prefix}selected")
        if len({shape[0] for shape in found.values()}) > 1:
            wrong.append(f"tensors of {prefix.rstrip('.')!r} are of several sizes")
        if selected is not None and isinstance(module, nn.Linear) and selected.shape != weight[1:]:
            wrong.append(f"{prefix}selected is {selected.shape} beside a weight of shape {weight}")
    return wrong


def _resize(net: nn.Module, prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = {key: tensors[prefix + key] for key in SIZED if prefix + key in tensors}
    trained = any(parameter.requires_grad for parameter in module.parameters())
    before = {**module._parameters, **module._buffers}
    if isinstance(module, nn.Linear) and f"{prefix}selected" in tensors:
        module = SelectedLinear(tensors[f"{prefix}selected"], len(own["weight"]), "bias" in own).to(own["weight"])
        net.set_submodule(prefix.rstrip("."), module)
    for key, value in own.items():
        kept = before.get(key)
        if key.startswith("running"):
            module._buffers[key] = torch.empty_like(value)
        elif kept is not None and kept.shape == value.shape:
            module._parameters[key] = kept  # type: ignore[assignment]
        else:
            module._parameters[key] = nn.Parameter(torch.empty_like(value), requires_grad=trained)
    if isinstance(module, NORMS):
        module.num_features = len(own.get("running_mean", own.get("weight", ())))
    else:
        set_sizes(module)
