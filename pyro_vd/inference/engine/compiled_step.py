"""The whole training step as one graph: forward pass, gradient, a check that it is finite, Adam, the bounds.

A compiler that sees all of it does the elementwise work over the weights in as few passes over memory as there are
dependencies: the weights' preparation before the matrix products, the KL's gradient and the check behind them, Adam and
the bounds. The KL's value is in none of them: its gradient does not need it, and :meth:`Posterior.kl` gives it where
somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple

import pyro
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_vd.inference.engine.adam import Moments, adam, moments_of
from pyro_vd.inference.engine.objective import Objective, trace_objective
from pyro_vd.process_state import fork_rng

__all__ = ["State", "StepOutput", "copy_of", "state_of", "trace_step"]


class StepOutput(NamedTuple):
    """What a step says of itself, without gradients.

    Attributes:
        log_likelihood: 0-dim, nats, scaled to the training set.
        finite: bools: the objective is finite, and then the gradient of every trained parameter is. Where one is False
            the step has changed nothing.
    """

    log_likelihood: Tensor
    finite: Tensor


class State(NamedTuple):
    """What a step reads and, but for what is frozen, changes in place, by name.

    Attributes:
        parameters: those with a gradient.
        moments: theirs.
        buffers: running averages and the like.
        frozen: the other parameters, and the buffers that a step does not change.
    """

    parameters: dict[str, Tensor]
    moments: dict[str, Moments]
    buffers: dict[str, Tensor]
    frozen: dict[str, Tensor]

    def map(self, function: Callable[..., Tensor], *others: State) -> State:
        """The state of ``function``'s values on this state's tensors and, beside each, the others'."""

        def plain(part: str) -> dict[str, Tensor]:
            dicts = [getattr(state, part) for state in (self, *others)]
            return {name: function(*(tensors[name] for tensors in dicts)) for name in dicts[0]}

        moments = {
            name: Moments(*map(function, *(state.moments[name] for state in (self, *others)))) for name in self.moments
        }
        return State(plain("parameters"), moments, plain("buffers"), plain("frozen"))


def state_of(objective: Objective, optimizer: torch.optim.Adam, trained: Container[str]) -> State:
    """The state with the objective's and the optimizer's own tensors; ``trained`` names those with a gradient."""
    named = dict(objective.named_parameters())
    parameters = {name: parameter for name, parameter in named.items() if name in trained}
    return State(
        dict(parameters),
        {name: moments_of(optimizer, parameter) for name, parameter in parameters.items()},
        objective.statistics(),
        {name: parameter for name, parameter in named.items() if name not in trained} | objective.fixed_buffers(),
    )


def trace_step(
    objective: Objective, optimizer: torch.optim.Adam, x: Tensor, y: Tensor
) -> tuple[Callable[..., StepOutput], State]:
    """The step on batches of this size as ``graph(state, x, y, beta, factor) -> StepOutput``, and the state it is on.

    ``x`` and ``y`` hold one batch, shape (1, examples, ...), and so do the outcomes: where several pairs step, that is
    their axis. The state's tensors are the objective's and the optimizer's own. ``beta`` is the KL weight, ``factor``
    multiplies the groups' base rates; both are 0-dim tensors. Nothing is changed and no random number used up.
    """
    traced = trace_objective(objective, x[0], y[0])
    names = {id(p): name for name, p in objective.named_parameters()}
    rates = {names[id(p)]: group["base_lr"] for group in optimizer.param_groups for p in group["params"]}
    beta, factor = (torch.ones((), device=x.device) for _ in range(2))  # a tracer would take one tensor for one input
    with fork_rng(x), pyro.validation_enabled(False):
        state = state_of(objective, optimizer, _trained(objective, traced, x[0], y[0], beta))
        step = _step(traced, rates, objective.bounds())
        with torch.no_grad():
            graph = make_fx(step)(state.map(copy_of), x, y, beta, factor)  # on a copy, for tracing makes the step
    return graph, state


def copy_of(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _trained(objective: Objective, traced: nn.Module, x: Tensor, y: Tensor, beta: Tensor) -> set[str]:
    """Names of the parameters that the loss depends on."""
    candidates = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    buffers = {name: value.clone() for name, value in objective.statistics().items()}
    loss, *_ = functional_call(traced, buffers, (x, y, beta))
    gradients = torch.autograd.grad(loss, list(candidates.values()), allow_unused=True)
    return {name for name, gradient in zip(candidates, gradients, strict=True) if gradient is not None}


def _step(
    traced: nn.Module, rates: dict[str, float], bounds: dict[str, tuple[float, float]]
) -> Callable[[State, Tensor, Tensor, Tensor, Tensor], StepOutput]:
    def step(state: State, x: Tensor, y: Tensor, beta: Tensor, factor: Tensor) -> StepOutput:
        leaves = {name: value.detach().requires_grad_() for name, value in state.parameters.items()}
        buffers = {name: value.clone() for name, value in state.buffers.items()}
        with torch.enable_grad():
            loss, log_likelihood, _ = functional_call(traced, leaves | buffers | state.frozen, (x[0], y[0], beta))
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        # Where all is finite, 0 times all is 0; and a sum, unlike a maximum, goes into the loop that has the gradient.
        zeros = [log_likelihood.detach() * 0, *((gradient * 0).sum() for gradient in gradients.values())]
        finite = torch.stack(zeros) == 0
        go = finite.all()
        for name, gradient in gradients.items():
            value, moments = adam(state.parameters[name], gradient, state.moments[name], rates[name] * factor)
            if name in bounds:
                value = value.clamp(*bounds[name])
            _replace(state.parameters[name], value, go)
            for old, new in zip(state.moments[name], moments, strict=True):
                _replace(old, new, go)
        for name, value in state.buffers.items():
            _replace(value, buffers[name], go)
        return StepOutput(log_likelihood.detach()[None], finite[None])

    return step


def _replace(old: Tensor, new: Tensor, go: Tensor) -> None:
    old.copy_(torch.where(go, new, old))
