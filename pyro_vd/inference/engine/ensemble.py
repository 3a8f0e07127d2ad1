"""Ensemble: many pairs that step as one. The only file that stacks pairs, maps a step over them and unstacks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_vd.inference.engine.compiled_step import Graph, TrainState, clone, collect_state, trace_step
from pyro_vd.inference.engine.eager_step import EagerStep
from pyro_vd.inference.engine.step_output import StepOutput
from pyro_vd.process_state import fork_rng
from pyro_vd.pytree import Tree, first, take

__all__ = ["Ensemble"]


class Ensemble:
    """Several pairs with the interface of one, :class:`EagerStep`. Batches and outputs have an axis of pairs before
    every other.

    Args:
        members: pairs that differ in the values of their parameters, buffers and optimizer's state, and in nothing
            else.
    """

    def __init__(self, members: Sequence[EagerStep]):
        self.members = list(members)

    def set_lr(self, factor: float) -> None:
        """Sets every learning rate to its base rate times ``factor``."""
        for member in self.members:
            member.set_lr(factor)

    def set_threshold(self, threshold: float) -> None:
        """Sets the train-time masking threshold of all; ``math.inf`` for no masking."""
        for member in self.members:
            member.set_threshold(threshold)

    def per_member(self, x: Tree, y: Tree) -> Iterator[tuple[EagerStep, Tree, Tree]]:
        """Every pair with its own part of the batch."""
        for number, member in enumerate(self.members):
            yield member, take(x, number), take(y, number)

    def step(self, x: Tree, y: Tree, beta: Tensor) -> StepOutput:
        """One eager step of each, one after the other. A step that is not finite changes nothing of its pair."""
        outputs = [member.step(own_x, own_y, beta) for member, own_x, own_y in self.per_member(x, y)]
        return StepOutput(*map(torch.stack, zip(*outputs, strict=True)))

    def trace(self, x: Tree, y: Tree) -> tuple[Graph, TrainState]:
        """The step of all as one graph, by ``torch.func.vmap`` over the one of a single pair, and its state.

        The parameters, optimizer's state and buffers of the members become rows of the state's tensors, so that whoever
        holds a parameter sees every step.
        """
        member = self.members[0]
        graph, state = trace_step(member.objective, member.update, take(x, 0), take(y, 0))
        others = [collect_state(other.objective, other.update, state.parameters) for other in self.members[1:]]
        stacked = state.map(_stack, *others)
        beta, factor = (torch.ones((), device=first(y).device) for _ in range(2))
        mapped = torch.func.vmap(graph, in_dims=(0, 0, 0, None, None), randomness="different")
        with fork_rng(first(y)), torch.no_grad():
            return make_fx(mapped)(stacked.map(clone), x, y, beta, factor), stacked

    def unstack(self) -> None:
        """Gives every member tensors of its own again: a row keeps the memory of all rows alive, also in a copy."""
        for member in self.members:
            objective = member.objective
            buffers = objective.statistics() | objective.fixed_buffers()
            moments = (value for state in member.optimizer.state.values() for value in state.values())
            for tensor in (*objective.parameters(), *buffers.values(), *filter(torch.is_tensor, moments)):
                tensor.data = clone(tensor)


def _stack(*tensors: Tensor) -> Tensor:
    """The tensors as rows of one, which they share from here on."""
    rows = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, row in zip(tensors, rows, strict=True):
        tensor.data = row
    return rows
