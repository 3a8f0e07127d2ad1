"""One graph for one pair or for many: many are a new axis of every tensor, by ``torch.func.vmap`` over the one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_vd.inference.engine.compiled_step import State, StepOutput, copy_of, state_of, trace_step
from pyro_vd.inference.engine.eager_step import EagerStep
from pyro_vd.process_state import fork_rng

__all__ = ["separate", "trace_ensemble"]


def trace_ensemble(replicas: Sequence[EagerStep], x: Tensor, y: Tensor) -> tuple[Callable[..., StepOutput], State]:
    """The step of all replicas, as :func:`trace_step`'s but with an axis of replicas before every other.

    The replicas differ in the values of their parameters, moments and buffers and in nothing else. Where there are
    several, these become rows of the state's tensors, so that whoever holds a parameter sees every step.

    Args:
        x, y: one batch for every replica, shape (replicas, batch, ...).
    """
    first = replicas[0]
    graph, state = trace_step(first.objective, first.optimizer, x[:1], y[:1])
    if len(replicas) == 1:
        return graph, state.map(Tensor.detach)
    others = [state_of(replica.objective, replica.optimizer, state.parameters) for replica in replicas[1:]]
    stacked = state.map(_stacked, *others)
    beta, factor = (torch.ones((), device=x.device) for _ in range(2))
    # The graph's own axis of one pair stays inside, behind the one of all pairs.
    wide = torch.func.vmap(graph, in_dims=(0, 1, 1, None, None), out_dims=1, randomness="different")

    def together(state: State, x: Tensor, y: Tensor, beta: Tensor, factor: Tensor) -> StepOutput:
        return StepOutput(*(rows[0] for rows in wide(state, x[None], y[None], beta, factor)))

    with fork_rng(x), torch.no_grad():
        return make_fx(together)(stacked.map(copy_of), x, y, beta, factor), stacked


def separate(replicas: Sequence[EagerStep]) -> None:
    """Gives every replica tensors of its own again: a row keeps the memory of all rows alive, also in a copy of it."""
    for replica in replicas:
        objective = replica.objective
        buffers = objective.statistics() | objective.fixed_buffers()
        for tensor in (*objective.parameters(), *buffers.values()):
            tensor.data = copy_of(tensor)


def _stacked(*tensors: Tensor) -> Tensor:
    """The tensors as rows of one, which they share from here on."""
    rows = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, row in zip(tensors, rows, strict=True):
        tensor.data = row
    return rows
