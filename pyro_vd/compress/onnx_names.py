"""Names of inputs, outputs and axes in an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.pytree import Tree, as_tree, bind, check_inputs, is_single, map_leaves, move, named_leaves, rebuild

__all__ = ["BATCH", "INPUT", "OUTPUT", "Axes", "axes_by_input", "dynamic_shapes", "in_order", "named_inputs",
           "output_names", "shorter_inputs"]  # fmt: skip

INPUT, OUTPUT, BATCH = "input", "output", "batch"
Axes = Mapping[int, str] | Mapping[str, Mapping[int, str]]


def in_order(net: nn.Module, inputs: Tree) -> Tree:
    """The inputs, on the CPU; those by name in the order of the arguments of the network's ``forward``."""
    inputs = move(as_tree(inputs), "cpu")
    check_inputs(inputs, "export")
    bound = bind(net, inputs)
    return (
        {name: inputs[name] for name in (*bound.arguments, *inputs) if name in inputs}
        if isinstance(inputs, dict)
        else inputs
    )


def named_inputs(net: nn.Module, inputs: Tree) -> dict[str, Tensor]:
    """Name -> tensor: ``input`` for a single one, else by the names of the arguments of the network's ``forward``.

    The order is that of the leaves of ``inputs``, if they are :func:`in_order`.
    """
    if is_single(inputs):
        return {INPUT: inputs}
    by_argument = inputs if isinstance(inputs, dict) else dict(bind(net, inputs).arguments)
    return {name.removeprefix("."): leaf for name, leaf in named_leaves("", by_argument)}


def output_names(outputs: Any) -> list[str]:
    """``output`` for a single tensor, ``output.0`` of a tuple, and the key of a dict."""
    found = [name for name, leaf in named_leaves(OUTPUT, as_tree(outputs)) if leaf is not None]
    keys = [name.removeprefix(f"{OUTPUT}.") for name in found]
    return [name if key[:1].isdigit() else key for name, key in zip(found, keys, strict=True)]


def axes_by_input(inputs: Mapping[str, Tensor], axes: Axes) -> dict[str, dict[int, str]]:
    """Input -> axis -> name, of the axes that may have any size, checked.

    Raises:
        UserError: for an axis that an input does not have, a name that is none or is there twice, and fewer than two
            positions.
    """
    nested: Mapping[Any, Any] = axes if list(inputs) != [INPUT] else {INPUT: axes}
    if any(not isinstance(of_input, Mapping) for of_input in nested.values()) or nested.keys() - inputs.keys():
        raise UserError(
            f"export: axes={dict(axes)}: give the axes by input, such as {{{next(iter(inputs))!r}: {{1: 'length'}}}}; "
            f"the inputs are {', '.join(inputs)}"
        )
    found: dict[str, dict[int, str]] = {name: dict(of_input) for name, of_input in nested.items()}
    for name, of_input in found.items():
        _check_axes(inputs[name], of_input)
    return found


def _check_axes(given: Tensor, axes: Mapping[int, str]) -> None:
    for axis, name in axes.items():
        if axis not in range(1, given.ndim):
            raise UserError(f"export: axes={dict(axes)}: an axis must be from 1 to {given.ndim - 1}; 0 is the batch")
        if not str(name).isidentifier() or [BATCH, *axes.values()].count(name) > 1:
            raise UserError(f"export: axes={dict(axes)}: each axis needs a name of its own, of letters and digits")
        if given.shape[axis] < 2:
            raise UserError(
                f"export: axis {axis} ({name}) has {given.shape[axis]} position; inputs with two are needed"
            )


def dynamic_shapes(net: nn.Module, inputs: Tree, axes: Mapping[str, Mapping[int, str]], batch: Any) -> dict[str, Any]:
    """What ``torch.export`` calls dynamic shapes: by argument of ``forward``, the axes that may have any size."""
    shapes = iter([{0: batch, **axes.get(name, {})} for name in named_inputs(net, inputs)])
    return {name: map_leaves(lambda _: next(shapes), value) for name, value in bind(net, inputs).arguments.items()}


def shorter_inputs(
    net: nn.Module, inputs: Tree, axes: Mapping[str, Mapping[int, str]]
) -> Iterator[tuple[str, int, Tree]]:
    """For each of the names of axes: the axis in words, a size, and the inputs with one position less along it."""
    for name in dict.fromkeys(name for of_input in axes.values() for name in of_input.values()):
        shorter, words, size = [], "", 0
        for given, value in named_inputs(net, inputs).items():
            for axis, other in axes.get(given, {}).items():
                if other == name:
                    words, size = f"axis {axis} ({name})", value.shape[axis] - 1
                    value = value.narrow(axis, 0, size).contiguous()
            shorter.append(value)
        yield words, size, rebuild(inputs, shorter)
