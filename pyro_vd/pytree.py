"""Trees of tensors: inputs, targets and outputs as one tensor, or as tuples, lists and dicts of tensors.

The containers are those of ``torch.utils._pytree``, where other packages register their own, as transformers its
outputs. Only this file looks into containers. A single tensor is a tree too.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from pyro_vd.errors import UserError

__all__ = ["Tree", "as_tree", "bind", "call", "cat", "check_inputs", "check_no_bytes", "check_tensors", "concatenate",
           "count", "count_both", "describe_structure", "divide", "first", "is_single", "leaves", "map_leaves", "move",
           "named_leaves", "rebuild", "split", "take"]  # fmt: skip

Tree = Any  # a tensor, or a nest of containers of tensors


def as_tree(value: Any) -> Tree:
    """The value with containers that PyTorch knows.

    A Mapping of another class, as the BatchEncoding of transformers, becomes a dict. A dataclass is registered with
    PyTorch when it is first seen.
    """
    return _open(value) if is_single(value) else _pytree.tree_map(_open, value)


def _open(leaf: Any) -> Tree:
    if isinstance(leaf, Mapping):
        return as_tree(dict(leaf))
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
        _pytree.register_dataclass(type(leaf))
        return as_tree(leaf)
    return leaf


def leaves(tree: Tree) -> list[Any]:
    """The leaves, in order."""
    return [tree] if is_single(tree) else _pytree.tree_leaves(tree)


def first(tree: Tree) -> Tensor:
    """The first tensor."""
    return next(leaf for leaf in leaves(tree) if isinstance(leaf, Tensor))


def is_single(tree: Tree) -> bool:
    """Whether the tree is a leaf, without a container."""
    return bool(_pytree.tree_is_leaf(tree))


def named_leaves(name: str, tree: Tree) -> list[tuple[str, Any]]:
    """The leaves with their names: ``y`` for a single one, else ``y.key`` by the keys and numbers on the path.

    Example:
        >>> [found for found, _ in named_leaves("y", {"age": torch.zeros(2), "box": (torch.zeros(2), torch.zeros(2))})]
        ['y.age', 'y.box.0', 'y.box.1']
    """
    if is_single(tree):
        return [(name, tree)]
    try:
        found = _pytree.tree_flatten_with_path(tree)[0]
    except ValueError:  # a container that was registered without its keys
        return [(f"{name}.{number}", leaf) for number, leaf in enumerate(leaves(tree))]
    return [(".".join([name, *map(_name, path)]), leaf) for path, leaf in found]


def _name(key: Any) -> str:
    """What an entry of PyTorch's key paths holds: the key of a dict, the number in a tuple, the name of a field."""
    return str(getattr(key, dataclasses.fields(key)[0].name) if dataclasses.is_dataclass(key) else key)


def map_leaves(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree of the function's values on the leaves of trees of one structure. A leaf that is None stays."""
    return _pytree.tree_map(lambda leaf, *more: None if leaf is None else function(leaf, *more), tree, *others)


def rebuild(tree: Tree, values: Iterable[Any]) -> Tree:
    """The values, in order, in the containers of ``tree``."""
    return _pytree.tree_unflatten(list(values), _pytree.tree_structure(tree))


def describe_structure(tree: Tree) -> str:
    """The containers, as text that is equal for trees of one structure."""
    return "" if is_single(tree) else str(_pytree.tree_structure(tree))


def move(tree: Tree, device: torch.device | str) -> Tree:
    """The tree on this device."""
    return map_leaves(lambda leaf: leaf.to(device), tree)


def take(tree: Tree, index: Any) -> Tree:
    """Every leaf at this index of its first axis."""
    return map_leaves(lambda leaf: leaf[index], tree)


def split(tree: Tree, size: int | None) -> list[Tree]:
    """Parts of at most ``size`` examples; the whole for None."""
    return [tree] if size is None else _cut(tree, lambda leaf: leaf.split(size))


def divide(tree: Tree, number: int) -> list[Tree]:
    """So many parts of equal size, up to one example."""
    return _cut(tree, lambda leaf: leaf.tensor_split(number))


def _cut(tree: Tree, cut: Callable[[Tensor], Sequence[Tensor]]) -> list[Tree]:
    return [rebuild(tree, parts) for parts in zip(*map(cut, leaves(tree)), strict=True)]


def cat(parts: Sequence[Tree]) -> Tree:
    """The parts in one tree, leaf by leaf along the first axis."""
    return map_leaves(lambda *found: torch.cat(found), *parts)


def concatenate(parts: Iterable[Tree], length: int | None) -> Tree:
    """The parts in one tree, filled one by one: a list of them would need twice the memory. None: there is one part."""
    iterator = iter(parts)
    start = next(iterator)
    if length is None:
        return start
    found = map_leaves(lambda leaf: leaf.new_empty((length, *leaf.shape[1:])), start)
    begin = 0
    for part in itertools.chain([start], iterator):
        where = slice(begin, begin + len(first(part)))
        map_leaves(lambda whole, leaf: whole[where].copy_(leaf), found, part)  # noqa: B023
        begin = where.stop
    return found


def count(tree: Tree, name: str = "x", advice: str = "") -> int:
    """The number of examples: the length of the first axis, the same of all leaves.

    Raises:
        UserError: for leaves of different lengths, or without an axis, naming them.
    """
    if isinstance(tree, Tensor) and tree.ndim:
        return len(tree)
    shapes = [(leaf, tuple(value.shape)) for leaf, value in named_leaves(name, tree) if value is not None]
    one, length = shapes[0][0], shapes[0][1][:1]
    for leaf, shape in shapes:
        if not shape or shape[:1] != length:
            others = f"that of {one} is {length[0]}, and " if length and leaf != one else ""
            raise UserError(f"the first axis must count examples: {others}the shape of {leaf} is {shape}{advice}")
    return int(length[0])


def count_both(x: Tree, y: Tree, advice: str = "") -> int:
    """The number of examples in inputs and targets.

    Raises:
        UserError: as :func:`count`, and if there are not as many of both.
    """
    sizes = count(x, "x", advice), count(y, "y", advice)
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the first axis must count examples: that of x is {sizes[0]}, and that of y is {sizes[1]}{advice}"
        )
    return sizes[0]


def check_tensors(tree: Tree, name: str, what: str) -> None:
    """Refuses an empty tree, and leaves that are no tensors.

    Raises:
        UserError: naming the leaf.
    """
    found = named_leaves(name, tree)
    if not found:
        raise UserError(f"{name} of {what} is empty; give a tensor, or a tuple or dict of tensors")
    for leaf, value in found:
        if not isinstance(value, Tensor):
            raise UserError(f"{leaf} of {what} is a {type(value).__name__}; give tensors only")


def check_inputs(x: Tree, what: str) -> None:
    """Refuses inputs in containers that are no tensors, or are bytes. Those of a single tensor are taken for pixels.

    Raises:
        UserError: naming the leaf.
    """
    check_tensors(x, "x", what)
    if not is_single(x):
        check_no_bytes(x, what)


def check_no_bytes(x: Tree, what: str) -> None:
    """Refuses inputs of uint8, which may be numbers, pixels, tokens or masks.

    Raises:
        UserError: naming the leaf.
    """
    for leaf, value in named_leaves("x", x):
        if value.dtype == torch.uint8:
            raise UserError(
                f"{leaf} of {what} is uint8; give numbers by .float(), pixels by .float() / 255, tokens by .long(), "
                "and masks by .bool()"
            )


def call(net: nn.Module, x: Tree) -> Any:
    """The network's output on these inputs: a tuple or list holds its positional arguments, a dict those by name.

    Anything else is the one argument. To give a network one argument that is a tuple or a dict, put it into a tuple.

    Raises:
        UserError: for arguments that the network's ``forward`` does not have.

    Example:
        >>> call(nn.Bilinear(2, 3, 4), (torch.zeros(5, 2), torch.zeros(5, 3))).shape
        torch.Size([5, 4])
    """
    args, kwargs = _arguments(x)
    try:
        return net(*args, **kwargs)
    except TypeError:
        bind(net, x)
        raise


def bind(net: nn.Module, x: Tree) -> inspect.BoundArguments:
    """The inputs as arguments of the network's ``forward``.

    Raises:
        UserError: if it does not take them, with its signature.
    """
    args, kwargs = _arguments(x)
    signature = inspect.signature(net.forward)
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        names = ", ".join(map(str, kwargs))
        raise UserError(
            f"forward{signature} of {type(net).__name__} does not take x, "
            f"{f'a dict with the keys {names}' if kwargs else f'{len(args)} positional arguments'}: {error}; a tuple "
            "holds positional arguments, a dict those by name"
        ) from None


def _arguments(x: Tree) -> tuple[Sequence[Any], dict[str, Any]]:
    if isinstance(x, Tensor):
        return (x,), {}
    if isinstance(x, Mapping):
        return (), dict(x)
    return (x, {}) if isinstance(x, tuple | list) else ((x,), {})
