"""shrink: a pruned network's dead units are taken out, and what is left gives the same logits.

A unit is dead if nothing reads it (every weight on it is 0) or if nothing moves it (every weight into it is 0). What
nothing reads is taken away; what nothing moves is a constant, which goes into the biases of its readers first. Each
removal may kill other units, so both rules run until neither finds one. That a constant is one is not derived but
measured, on the given inputs and on noise: the graph says that a channel meets no other, whatever carries it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pyro_vd.compress.channels import Channels, channels_of, is_depthwise
from pyro_vd.compress.copies import copy_of
from pyro_vd.compress.dead import DeadUnits, columns_used
from pyro_vd.compress.rounding import ROUNDINGS, outputs_in_float64
from pyro_vd.compress.selected import SelectedLinear
from pyro_vd.errors import UserError
from pyro_vd.process_state import fork_rng

__all__ = ["architecture", "set_sizes", "shrink"]

TOLERANCE = 1e-4  # of the logits' spread, between the network and the shrunk one: float32 sums in another order


@torch.no_grad()
def shrink(net: nn.Module, inputs: Tensor) -> nn.Module:
    """A smaller network of the same modules with the same logits, in eval mode; ``net`` is untouched.

    Args:
        net: a pruned network, as :meth:`Posterior.mean` with a threshold gives it, of linear layers, convolutions (each
            channel by itself, or all), batch normalisation, and what leaves channels apart (activations, pooling,
            flattening, additions, concatenation). Where inputs of a linear layer remain that nothing reads, of the
            network or of a flattened convolution, a :class:`SelectedLinear` takes its place.
        inputs: a batch of the network's inputs, two at least, by which it is traced and the result checked. Where what
            a dead unit gives depends on the size of an image, as an average that counts the zeros around it does, the
            smaller network is for images of this size.

    Warns:
        UserWarning: where no weight is 0, and where a layer has none that is not, naming it.

    Raises:
        UserError: for a layer or operation that is not known to keep channels apart, naming it; for a network that
            gives other logits when shrunk, as one whose code has sizes of its own.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> _ = nn.init.zeros_(net[0].weight[1])
        >>> shrink(net, torch.randn(8, 4))[0]
        Linear(in_features=4, out_features=2, bias=True)
    """
    _refuse_parametrised(net)
    device, inputs = inputs.device, inputs.cpu()  # a GPU may multiply in TF32, too coarsely for the check
    small = copy_of(net, "shrink").cpu().eval()
    channels = channels_of(small, inputs)
    with fork_rng(inputs):
        probe = torch.cat([inputs, torch.randn_like(inputs)]) if inputs.is_floating_point() else inputs.clone()
        expected, seen = _watched(small, channels, probe)
        _say_what_is_odd(small, channels)
        dead = DeadUnits(small, channels, seen)
        dead.remove()
        _take_out(small, channels, dead.kept())
    _check_same(net, small, probe, expected)
    return small.to(device)


def _say_what_is_odd(net: nn.Module, channels: Channels) -> None:
    """Warns where nothing was pruned, or everything in a layer."""
    weights = {name: net.get_submodule(name).get_parameter("weight") for name in channels.makers}
    empty = [name for name, weight in weights.items() if not bool(weight.any())]
    if empty:
        warnings.warn(
            f"shrink: nothing is left of {', '.join(empty)}; a higher threshold or a lower weight of the KL prunes "
            "less",
            stacklevel=4,
        )
    if all(bool(weight.all()) for weight in weights.values()):
        warnings.warn(
            "shrink: no weight is 0, so there is nothing to take out; give it the network that "
            "Posterior.mean(masks) prunes, at a threshold that is low enough",
            stacklevel=4,
        )


def architecture(net: nn.Module) -> dict[str, tuple[int, int]]:
    """Layer -> (inputs, outputs) of every convolution and linear layer."""
    sizes = {}
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear):
            sizes[name] = (layer.in_features, layer.out_features)
        elif isinstance(layer, nn.modules.conv._ConvNd):
            sizes[name] = (layer.in_channels, layer.out_channels)
    return sizes


def _refuse_parametrised(net: nn.Module) -> None:
    for name, module in net.named_modules():
        computed = any(key.endswith("_orig") or key in ("weight_g", "weight_v") for key in module._parameters)
        if computed or parametrize.is_parametrized(module):
            raise UserError(
                f"shrink: a weight of {name!r} is made of other tensors; call torch.nn.utils.prune.remove, "
                "remove_weight_norm or parametrize.remove_parametrizations first"
            )


def _watched(net: nn.Module, channels: Channels, probe: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The network's outputs, and by layer the inputs that it read."""
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        (read,) = (value.clone() for value in (*args, *kwargs.values()))  # what comes later may work in place
        seen[name] = module.read(read) if isinstance(module, SelectedLinear) else read

    layers = {name: net.get_submodule(name) for name in channels.readers}
    hooks = [layer.register_forward_pre_hook(partial(watch, name), with_kwargs=True) for name, layer in layers.items()]
    try:
        outputs = net(probe.clone())
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(outputs, Tensor):
        raise UserError(f"shrink: {type(net).__name__} gives {type(outputs).__name__}, not a tensor of logits")
    return outputs, seen


def _take_out(net: nn.Module, channels: Channels, kept: set[int]) -> None:
    for name, labels in channels.carriers.items():
        _slice_norm(net.get_submodule(name), _where(labels, kept))
    for name in channels.makers:
        layer = net.get_submodule(name)
        rows, columns = _where(channels.makers[name], kept), _where(channels.readers[name], kept)
        _slice_layer(layer, rows, columns)
        if isinstance(layer, SelectedLinear):
            positions = torch.tensor([label in kept for label in channels.offered[name]]).cumsum(0) - 1
            layer.selected = positions.to(layer.selected.device)[layer.selected[columns]]
        _select_inputs(net, name)


def _where(labels: list[int], kept: set[int]) -> Tensor:
    return torch.tensor([index for index, label in enumerate(labels) if label in kept], dtype=torch.long)


def _slice_norm(norm: nn.Module, index: Tensor) -> None:
    _replace(norm, {key: value[index] for key, value in _tensors(norm) if value.ndim == 1})
    norm.num_features = len(index)  # type: ignore[assignment]


def _slice_layer(layer: nn.Module, rows: Tensor, columns: Tensor) -> None:
    weight = layer.get_parameter("weight")[rows]
    tensors = {"weight": weight if is_depthwise(layer) else weight[:, columns]}
    if layer.bias is not None:
        tensors["bias"] = layer.get_parameter("bias")[rows]
    _replace(layer, tensors)
    set_sizes(layer)


def set_sizes(layer: nn.Module) -> None:
    """Makes what a layer says of its inputs and outputs agree with its weight."""
    outputs, inputs = layer.get_parameter("weight").shape[:2]
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
    elif layer.groups != 1:  # depthwise
        layer.groups = layer.in_channels = layer.out_channels = outputs  # type: ignore[assignment]
    else:
        layer.in_channels, layer.out_channels = inputs, outputs  # type: ignore[assignment]


def _select_inputs(net: nn.Module, name: str) -> None:
    """Puts a layer that selects its inputs in the place of a linear one with some that it does not read."""
    layer = net.get_submodule(name)
    used = columns_used(layer)
    if not isinstance(layer, nn.Linear) or bool(used.all()) or not bool(used.any()):
        return
    selected = used.nonzero().flatten()
    offered = layer.selected[selected] if isinstance(layer, SelectedLinear) else selected
    chosen = SelectedLinear(offered, layer.out_features, layer.bias is not None).to(layer.weight)
    chosen.weight.copy_(layer.weight[:, selected])
    if layer.bias is not None:
        chosen.bias.copy_(layer.bias)
    net.set_submodule(name, chosen.requires_grad_(layer.weight.requires_grad).eval())


def _replace(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    for key, value in tensors.items():
        if key in module._parameters:
            module._parameters[key] = nn.Parameter(value.clone(), module._parameters[key].requires_grad)  # type: ignore[union-attr]
        else:
            module._buffers[key] = value.clone()


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _check_same(net: nn.Module, small: nn.Module, probe: Tensor, expected: Tensor) -> None:
    """On the inputs and on noise, against how much the logits differ from example to example."""
    try:
        difference = (small(probe.clone()) - expected).abs().max()
    except Exception as error:  # whatever the network's own code raises at other sizes
        raise UserError(
            f"shrink: {type(small).__name__} does not run at its new sizes ({error}); are sizes fixed in its code?"
        ) from None
    rounding = torch.finfo(expected.dtype).eps
    spread = (expected - expected.mean(0)).abs().max()
    allowed = max(TOLERANCE, 4 * rounding) * spread + 4 * rounding * expected.abs().max()
    if not bool(difference <= allowed):  # nearly constant logits may be differences of large numbers
        exact = outputs_in_float64(net, probe)
        allowed = allowed if exact is None else allowed + ROUNDINGS * (expected - exact).abs().max()
    if not bool(difference <= allowed):
        raise UserError(
            f"shrink: the shrunk {type(small).__name__}'s logits differ by {difference:.1e}, where those of the "
            f"examples differ by {spread:.1e}; the network is untouched"
        )
