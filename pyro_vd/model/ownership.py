"""Refuses a loss that depends on tensors that no module owns. Otherwise they would silently not be trained."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import pyro
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves

from pyro_vd.errors import UserError

__all__ = ["leaves", "refuse_foreign"]


def _graph_nodes(loss: Tensor) -> Iterator[Node]:
    """The nodes of the autograd graph behind ``loss``, each once."""
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        nodes.extend(before for before, _ in node.next_functions)


def leaves(loss: Tensor) -> list[Tensor]:
    """The leaf tensors that get a gradient in a backward pass from ``loss``."""
    return [node.variable for node in _graph_nodes(loss) if hasattr(node, "variable")]


def refuse_foreign(loss: Tensor, owned: Iterable[Tensor], inputs: Any = (), likelihood: object = None) -> None:
    """Refuses a loss that depends on tensors that require a gradient and are not among ``owned``.

    Args:
        loss: 0-dim, with its graph.
        owned: the tensors that are trained.
        inputs: arguments of the loss, nested in any way. The tensors that they are computed from are allowed, because
            the caller trains them.
        likelihood: if it is a function, the tensor's name is looked up in its variables.

    Raises:
        UserError: naming those tensors.
    """
    trained = {id(tensor) for tensor in owned}
    for tensor in tree_leaves(inputs):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            trained |= {id(tensor), *map(id, leaves(tensor))}
    foreign = [leaf for leaf in leaves(loss) if id(leaf) not in trained and leaf.requires_grad]
    if foreign:
        names = ", ".join(sorted(_describe(leaf, likelihood) for leaf in foreign))
        raise UserError(
            f"the loss depends on {names}, which is not a parameter of the model's or the guide's modules and would "
            "not be trained; make it an nn.Parameter of an nn.Module, either the network or a likelihood that is a "
            "module (see the example of pyro_vd.lift)"
        )


def _describe(leaf: Tensor, likelihood: object) -> str:
    store = pyro.get_param_store()
    for name, value in store.named_parameters():
        if value is leaf:
            return f"pyro.param {name!r}"
    if inspect.isfunction(likelihood):
        variables = inspect.getclosurevars(likelihood)
        for name, value in {**variables.nonlocals, **variables.globals}.items():
            if value is leaf:
                return f"{name!r} of shape {tuple(leaf.shape)}"
    return f"a tensor of shape {tuple(leaf.shape)}"
