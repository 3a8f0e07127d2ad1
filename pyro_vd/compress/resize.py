"""Loads the tensors of a smaller network of the same class: checks them, and resizes the layers of the network.

The checks return messages; an empty list means that the tensors fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pyro_vd.compress.attention import PrunedAttention
from pyro_vd.compress.coding import Note
from pyro_vd.compress.layers import EMBEDDINGS, LAYERS, set_sizes
from pyro_vd.compress.recurrent import resize_recurrent
from pyro_vd.compress.selected_linear import SelectedLinear
from pyro_vd.compress.sizes import Size, is_resizable, tensor_sizes

__all__ = ["check_shapes", "check_values", "largest_shapes", "load_resized"]


def largest_shapes(net: nn.Module) -> dict[str, Note]:
    """Name -> the largest shape, and the dtype, of every tensor that ``net`` or a smaller network of its class has."""
    own = {name: Note(tuple(tensor.shape), tensor.dtype, None) for name, tensor in net.state_dict().items()}
    return own | {name: note for name, note in _optional_tensors(net) if name not in own}


def _optional_tensors(net: nn.Module) -> Iterator[tuple[str, Note]]:
    """Tensors that shrinking may add: biases that hold folded constants, and indices of selected inputs."""
    for prefix, module in _layers(net):
        if isinstance(module, nn.RNNBase):
            biases = [key for key in tensor_sizes(module) if key.startswith("bias")]
            weight = module.get_parameter("weight_hh_l0")
            yield from ((f"{prefix}{key}", Note(tuple(weight.shape[:1]), weight.dtype, None)) for key in biases)
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            for part in ("in_proj_", "out_proj."):
                weight = module.get_parameter(f"{part}weight")
                yield f"{prefix}{part}bias", Note((len(weight),), weight.dtype, None)
        elif isinstance(module, LAYERS) and not isinstance(module, EMBEDDINGS):
            weight = module.get_parameter("weight")
            yield f"{prefix}bias", Note((getattr(module, "out_channels", len(weight)),), weight.dtype, None)
            if isinstance(module, nn.Linear) and prefix:  # a layer that is the whole network cannot be replaced
                yield f"{prefix}selected", Note(tuple(weight.shape[1:]), torch.int64, None)


def check_shapes(net: nn.Module, stored: Mapping[str, Note]) -> list[str]:
    """Reasons why tensors of these shapes and dtypes are not those of ``net`` or a smaller network of its class."""
    own, largest = net.state_dict(keep_vars=True), largest_shapes(net)
    wrong = [f"no {name}" for name in own.keys() - stored.keys()]
    wrong += [f"unexpected {name}" for name in stored.keys() - largest.keys()]
    sizes = {f"{prefix}{key}": size for prefix, module in _layers(net) for key, size in tensor_sizes(module).items()}
    names: dict[int, int] = {}
    for tensor in own.values():
        names[id(tensor)] = names.get(id(tensor), 0) + 1
    for name in stored.keys() & largest.keys():
        expected, found = largest[name], stored[name]
        is_tied = name in own and names[id(own[name])] > 1
        free = () if is_tied else sizes.get(name, ())
        if found.dtype != expected.dtype or not _fits(found.shape, expected.shape, free):
            wrong.append(f"{name} is {found.shape} {found.dtype}, expected {expected.shape} {expected.dtype}")
    return wrong or _check_lengths(net, stored)


def check_values(net: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Reasons why these tensors, whose shapes and dtypes fit, are not those of a network like ``net``."""
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
    return wrong + _check_selected(net, tensors)


def _check_selected(net: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    wrong = []
    for prefix, module in _layers(net):
        selected = tensors.get(f"{prefix}selected")
        if selected is not None and isinstance(module, nn.Linear):
            count = int(module.selected.max()) + 1 if isinstance(module, SelectedLinear) else module.in_features
            in_range = bool(((selected >= 0) & (selected < count)).all())
            if not in_range or not bool((selected.diff() > 0).all()):
                wrong.append(f"{prefix}selected are not ascending inputs below {count}")
    return wrong


def load_resized(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives the layers of ``net`` the sizes of the tensors, and their values.

    A parameter that keeps its size remains the same object, and so remains tied.
    """
    for prefix, module in _layers(net):
        _resize(net, prefix, module, tensors)
    net.load_state_dict(tensors)


def _layers(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """(prefix of the names of its tensors, layer), of the layers that shrinking may make smaller."""
    return [(f"{name}." if name else "", module) for name, module in net.named_modules() if is_resizable(module)]


def _fits(shape: tuple[int, ...], largest: tuple[int, ...], free: tuple[Size | None, ...]) -> bool:
    if len(shape) != len(largest) or shape[len(free) :] != largest[len(free) :]:
        return False
    return all(
        length == full or (size is not None and 0 < length <= full and length % size.multiple == 0)
        for length, full, size in zip(shape, largest, free, strict=False)
    )


def _check_lengths(net: nn.Module, stored: Mapping[str, Note]) -> list[str]:
    wrong = []
    for prefix, module in _layers(net):
        found = {key: stored[prefix + key].shape for key in tensor_sizes(module) if prefix + key in stored}
        weight, selected = found.get("weight", ()), found.pop("selected", None)
        units: dict[str, set[int]] = defaultdict(set)
        for key, shape in found.items():
            for length, size in zip(shape, tensor_sizes(module)[key], strict=False):
                if size is not None:
                    units[size.units].add(length // size.multiple)
        if any(len(numbers) > 1 for numbers in units.values()):
            wrong.append(f"tensors of {prefix.rstrip('.')!r} are of several sizes")
        if selected is not None and selected != weight[1:]:
            wrong.append(f"{prefix}selected is {selected} beside a weight of shape {weight}")
    return wrong


def _resize(net: nn.Module, prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = {key: tensors[prefix + key] for key in tensor_sizes(module) if prefix + key in tensors}
    requires_grad = any(parameter.requires_grad for parameter in module.parameters())
    before = dict(module._parameters)
    if isinstance(module, nn.MultiheadAttention):
        shapes = {key: parameter.shape for key, parameter in module.named_parameters()}
        if any(value.shape != shapes.get(key) for key, value in own.items()):
            net.set_submodule(prefix.rstrip("."), PrunedAttention.of(module, own))
        return
    if isinstance(module, nn.Linear) and "selected" in own:
        selected = own.pop("selected")
        module = SelectedLinear(selected, len(own["weight"]), "bias" in own).to(own["weight"])
        net.set_submodule(prefix.rstrip("."), module)
    for key, value in own.items():
        kept = before.get(key)
        if key.startswith("running"):
            module._buffers[key] = torch.empty_like(value)
        elif kept is not None and kept.shape == value.shape:
            module._parameters[key] = kept
        else:
            module._parameters[key] = nn.Parameter(torch.empty_like(value), requires_grad=requires_grad)
    if isinstance(module, nn.RNNBase):
        resize_recurrent(module)
    elif own:
        set_sizes(module)
