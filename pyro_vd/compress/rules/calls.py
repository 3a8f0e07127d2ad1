"""One call of a traced network, as the rules for channels see it, and the error for what has no rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from pyro_vd.compress.rules.labels import Labeled
from pyro_vd.errors import UserError

__all__ = ["Call", "operation_name", "unknown"]


@dataclass(frozen=True)
class Call:
    """A call of a layer, a function or a method.

    Attributes:
        name: dotted name of the layer, or name of the operation.
        node: the call in the graph, whose arguments tell what is a number in the code.
        module: the layer; None for an operation.
        args: the arguments; tensors are :class:`Labeled`.
        kwargs: the keyword arguments.
        shapes: shapes of the tensors of the result.
        reads_number: whether an argument is a number that the code computes, as from the size of a tensor.
    """

    name: str
    node: fx.Node
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: list[tuple[int, ...]]
    reads_number: bool = False

    @property
    def kind(self) -> str:
        """Name of the operation, or of the layer's class in small letters."""
        return self.name if self.module is None else type(self.module).__name__.lower()

    @property
    def tensors(self) -> list[Labeled]:
        """All tensors among the arguments, in order."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Labeled)]

    @property
    def rank(self) -> int:
        """Number of axes of the first tensor of the result."""
        return len(self.shapes[0])

    @property
    def source(self) -> Labeled:
        """The first tensor."""
        return self.tensors[0]

    def argument(self, position: int, key: str, default: Any = None) -> Any:
        """The argument at this position or of this name."""
        if len(self.args) > position:
            return self.args[position]
        if key == "dim" and "axis" in self.kwargs:  # NumPy's name, which PyTorch takes too
            return self.kwargs["axis"]
        return self.kwargs.get(key, default)

    def axes(self, key: str = "dim", default: int | None = None) -> list[int]:
        """The axes of the first tensor that the second argument names, counted from 0; empty if it names none."""
        named = self.argument(1, key, default)
        axes = [named] if isinstance(named, int) else list(named or ())
        return [axis % max(len(self.source.shape), 1) for axis in axes]

    def run_on_labels(self) -> Tensor | tuple[Tensor, ...]:
        """The result of the same call on a label for each element, of a call that moves elements only."""
        args, kwargs = pytree.tree_map(
            lambda leaf: leaf.expand().contiguous() if isinstance(leaf, Labeled) else leaf, (self.args, self.kwargs)
        )
        if self.module is not None:
            return self.module(*args, **kwargs)  # type: ignore[no-any-return]
        if self.node.op == "call_method":
            return getattr(args[0], str(self.node.target))(*args[1:], **kwargs)  # type: ignore[no-any-return]
        return self.node.target(*args, **kwargs)  # type: ignore[operator, no-any-return]

    def describe(self) -> str:
        """The call in words, for a message."""
        if self.module is not None:
            return f"layer {self.name!r} ({self.module._get_name()})"
        shapes = ", ".join(str(tensor.shape) for tensor in self.tensors)
        return f"operation {self.node.name!r} ({self.name} of {shapes})"


def operation_name(node: fx.Node) -> str:
    """Dotted name of the layer, or name of the function, the method or the attribute."""
    if node.target is getattr:
        return str(node.args[1])
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def unknown(what: str, mend: str = "compute it with operations that the page of shrink lists") -> UserError:
    """The error for a layer or an operation without a rule."""
    return UserError(f"shrink: {what} is not known to keep channels apart; {mend}; the network is untouched")
