"""Tensors that a loss depends on and that no module owns: nothing trains them, and nothing else would say so."""

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
    """The tensors that a backward pass from ``loss`` accumulates gradients in."""
    return [node.variable for node in _graph_nodes(loss) if hasattr(node, "variable")]


def refuse_foreign(loss: Tensor, owned: Iterable[Tensor], inputs: Any = (), likelihood: object = None) -> None:
    """Refuses a loss that depends on tensors that require a gradient and are not among ``owned``.

    Args:
        loss: 0-dim, with its graph.
        owned: what is trained.
        inputs: arguments of the loss, in any nesting; what they are computed from is the caller's to train.
        likelihood: a function, in whose variables the tensor's name is looked up.

    Raises:
        UserError: naming them.
    """
    trained = {id(tensor) for tensor in owned}
    for tensor in tree_leaves(inputs):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            trained |= {id(tensor), *map(id, leaves(tensor))}
    foreign = [leaf for leaf in leaves(loss) if id(leaf) not in trained and leaf.requires_grad]
    if foreign:
        names = ", ".join(sorted(_describe(leaf, likelihood) for leaf in foreign))
        raise UserError(
            f"the loss depends on {names}, which is no parameter of the model's or the guide's modules and would stay "
            "as it is; make it an nn.Parameter of an nn.Module, of the network or of a likelihood that is a module "
            "(see the example of pyro_vd.lift)"
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
