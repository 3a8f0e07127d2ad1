"""The whole training step as one graph: forward pass, gradient, a check that it is finite, optimizer, bounds.

A compiler that sees all of it does the elementwise work over the weights in as few passes over memory as there are
dependencies: the preparation of the weights before the matrix products; the KL's gradient and the check after them;
the optimizer and the bounds. The KL's value is not computed: its gradient does not need it, and :meth:`Posterior.kl`
gives it at an epoch's end.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_vd.inference.engine.objective import Objective, trace_objective
from pyro_vd.inference.engine.step_output import StepOutput
from pyro_vd.inference.engine.update import Update, clip_factor
from pyro_vd.optim.optimizer import State
from pyro_vd.process_state import fork_rng
from pyro_vd.pytree import Tree, first

__all__ = ["Graph", "TrainState", "clone", "collect_state", "compile_graph", "trace_step"]

Graph = Callable[["TrainState", Tree, Tree, Tensor, Tensor], StepOutput]  # state, x, y, beta, factor


class TrainState(NamedTuple):
    """What a step reads and, except for what is frozen, changes in place, by name.

    Attributes:
        parameters: those with a gradient.
        optimizer: the optimizer's state of them.
        buffers: running averages and the like.
        frozen: the other parameters, and the buffers that a step does not change.
    """

    parameters: dict[str, Tensor]
    optimizer: dict[str, State]
    buffers: dict[str, Tensor]
    frozen: dict[str, Tensor]

    def map(self, function: Callable[..., Tensor], *others: TrainState) -> TrainState:
        """The state of ``function``'s values on this state's tensors and, beside each, the others'."""

        states = (self, *others)

        def map_dicts(*dicts: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: function(*(tensors[name] for tensors in dicts)) for name in dicts[0]}

        return TrainState(
            map_dicts(*(state.parameters for state in states)),
            {name: map_dicts(*(state.optimizer[name] for state in states)) for name in self.optimizer},
            map_dicts(*(state.buffers for state in states)),
            map_dicts(*(state.frozen for state in states)),
        )


def collect_state(objective: Objective, update: Update, trained: Container[str]) -> TrainState:
    """The state with the objective's and the optimizer's own tensors; ``trained`` names those with a gradient."""
    named = dict(objective.named_parameters())
    parameters: dict[str, Tensor] = {name: parameter for name, parameter in named.items() if name in trained}
    return TrainState(
        parameters,
        {name: update.state_of(parameter) for name, parameter in parameters.items()},
        objective.statistics(),
        {name: parameter for name, parameter in named.items() if name not in trained} | objective.fixed_buffers(),
    )


def trace_step(objective: Objective, update: Update, x: Tree, y: Tree) -> tuple[Graph, TrainState]:
    """The step on batches of this size as ``graph(state, x, y, beta, factor) -> StepOutput``, and the state it is on.

    The state's tensors are the objective's and the optimizer's own. ``beta`` is the KL weight, ``factor`` multiplies
    the groups' base rates; both are 0-dim tensors. Nothing is changed, and no random number is used up.
    """
    sizes = {len(first(targets)): (part, targets) for _, part, targets in objective.parts(x, y)}
    traced = {size: trace_objective(objective, *part) for size, part in sizes.items()}
    # Two tensors, because a tracer would take one for one input.
    beta, factor = (torch.ones((), device=first(y).device) for _ in range(2))
    with fork_rng(first(y)), pyro.validation_enabled(False):
        part_x, part_y = next(iter(sizes.values()))
        trained = _find_trained(objective, traced[len(first(part_y))], part_x, part_y, beta)
        state = collect_state(objective, update, trained)
        step = _make_step(traced, objective, update)
        with torch.no_grad():
            graph = make_fx(step)(state.map(clone), x, y, beta, factor)  # on a copy, because tracing makes the step
    return graph, state


def clone(tensor: Tensor) -> Tensor:
    """A copy that is no part of an autograd graph."""
    return tensor.detach().clone()


def compile_graph(
    graph: Graph, state: TrainState, factor: Tensor, x: Tree, y: Tree
) -> Callable[[Tree, Tree, Tensor], StepOutput]:
    """The graph compiled, as ``step(x, y, beta)`` on this state and with this factor of the rates.

    It is run once on a copy of the state, because that is when code is generated. Changes nothing but torch's
    generator.
    """
    # The engine checks what it passes, so guards would check twice. Random numbers are eager's and the wrapper is in
    # C++: on a CPU inductor's own numbers are slower, and a wrapper in Python costs a tenth of a small network's step.
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    if not factor.is_cuda:
        options |= {"fallback_random": True, "cpp_wrapper": True}
    compiled = torch.compile(graph, fullgraph=True, dynamic=False, options=options)

    @torch.no_grad()
    def step(x: Tree, y: Tree, beta: Tensor) -> StepOutput:
        return StepOutput(*compiled(state, x, y, beta, factor))

    with torch.no_grad():
        compiled(state.map(clone), x, y, torch.ones_like(factor), factor)
    return step


def _find_trained(objective: Objective, traced: nn.Module, x: Tree, y: Tree, beta: Tensor) -> set[str]:
    """Names of the parameters that the loss depends on."""
    candidates = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    buffers = {name: value.clone() for name, value in objective.statistics().items()}
    loss, *_ = functional_call(traced, buffers, (x, y, beta))
    gradients = torch.autograd.grad(loss, list(candidates.values()), allow_unused=True)
    return {name for name, gradient in zip(candidates, gradients, strict=True) if gradient is not None}


def _make_step(traced: Mapping[int, nn.Module], objective: Objective, update: Update) -> Graph:
    """``traced``: the objective by the number of examples in a part of the batch."""
    rules, bounds = update.rules(objective), objective.bounds()

    def step(state: TrainState, x: Tree, y: Tree, beta: Tensor, factor: Tensor) -> StepOutput:
        leaves = {name: value.detach().requires_grad_() for name, value in state.parameters.items()}
        buffers = {name: value.clone() for name, value in state.buffers.items()}
        tensors, log_likelihood = leaves | buffers | state.frozen, torch.zeros_like(beta)
        gradients: dict[str, Tensor] = {}
        for part, part_x, part_y in objective.parts(x, y):
            with torch.enable_grad():
                forward = traced[len(first(part_y))]
                loss, part_log_likelihood, _ = functional_call(forward, tensors, (part_x, part_y, beta))
                loss = update.scale(loss) * part
            found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
            gradients = {name: gradients[name] + each if gradients else each for name, each in found.items()}
            log_likelihood = log_likelihood + part_log_likelihood.detach() * part
        # 0 times a finite tensor is 0. A sum, unlike a maximum, joins the loop that has the gradient.
        zeros = [log_likelihood * 0, *((gradient * 0).sum() for gradient in gradients.values())]
        is_finite = torch.stack(zeros) == 0
        accept = is_finite.all()
        if update.largest_norm is not None:
            norms = [torch.linalg.vector_norm(gradient) for gradient in gradients.values()]
            share = clip_factor(norms, update.largest_norm)
            gradients = {name: gradient * share for name, gradient in gradients.items()}
        for name, gradient in gradients.items():
            rule, rate = rules[name]
            value, new_state = rule.step(state.parameters[name], gradient, state.optimizer[name], rate * factor)
            if name in bounds:
                value = value.clamp(*bounds[name])
            _replace(state.parameters[name], value, accept)
            for key, old in state.optimizer[name].items():
                _replace(old, new_state[key], accept)
        for name, value in state.buffers.items():
            _replace(value, buffers[name], accept)
        return StepOutput(log_likelihood, is_finite)

    return step


def _replace(old: Tensor, new: Tensor, accept: Tensor) -> None:
    old.copy_(torch.where(accept, new, old))
