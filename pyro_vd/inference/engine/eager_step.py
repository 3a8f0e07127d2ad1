"""EagerStep: one (model, guide) pair in training, with its objective, its optimizer and the step of both, eagerly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyro
import torch
from torch import Tensor

from pyro_vd.inference.engine.compiled_step import Graph, TrainState, trace_step
from pyro_vd.inference.engine.objective import Objective
from pyro_vd.inference.engine.step_output import StepOutput
from pyro_vd.inference.engine.update import Update
from pyro_vd.optim import Optimizer, TorchFactory
from pyro_vd.pytree import Tree

__all__ = ["EagerStep"]


class EagerStep:
    """One pair in training.

    Args:
        objective: the module to step.
        lr, lr_scale, optimizer, clip_norm: see :class:`~pyro_vd.inference.engine.update.Update`.

    Raises:
        UserError: for a word of ``lr_scale`` that names no parameter, or a torch optimizer that cannot be made or used.
    """

    def __init__(
        self,
        objective: Objective,
        lr: float,
        lr_scale: Mapping[str, float] | None = None,
        optimizer: Optimizer | TorchFactory | None = None,
        clip_norm: float | None = None,
    ):
        self.objective = objective
        self.update = Update(objective, lr, lr_scale, optimizer, clip_norm)
        objective.guide.project()  # every step ends inside the bounds, so the first one must start there
        self._parameters = list(objective.parameters())
        self._buffers = list(objective.statistics().values())

    @property
    def members(self) -> list[EagerStep]:
        """Itself: the pairs that :meth:`step` steps, see :class:`~pyro_vd.inference.engine.ensemble.Ensemble`."""
        return [self]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The torch optimizer."""
        return self.update.optimizer

    def set_lr(self, factor: float) -> None:
        """Sets every group's learning rate to its base rate times ``factor``."""
        self.update.set_lr(factor)

    def set_threshold(self, threshold: float) -> None:
        """Sets the train-time masking threshold; ``math.inf`` for no masking."""
        self.objective.set_threshold(threshold)

    def per_member(self, x: Tree, y: Tree) -> Iterator[tuple[EagerStep, Tree, Tree]]:
        """Every pair with its own part of the batch."""
        yield self, x, y

    def step(self, x: Tree, y: Tree, beta: Tensor) -> StepOutput:
        """One eager step, with ``beta`` the KL weight as a 0-dim tensor. A non-finite step changes nothing."""
        before = [buffer.clone() for buffer in self._buffers]
        with pyro.validation_enabled(False):
            parts = [self._backward(*part, beta) for part in self.objective.parts(x, y)]
        loss, log_likelihood = torch.stack(parts).sum(0)
        trained = [p for p in self._parameters if p.grad is not None]
        norms = torch._foreach_norm([p.grad for p in trained if p.grad is not None])
        is_finite = torch.stack([loss, *norms]).isfinite()
        accept = is_finite.all()
        self.update.step(trained, norms, accept)
        self.objective.guide.project()
        for buffer, old in zip(self._buffers, before, strict=True):  # BatchNorm averages before any loss is known
            buffer.copy_(torch.where(accept, buffer, old))
        return StepOutput(log_likelihood, is_finite)

    def _backward(self, share: float, x: Tree, y: Tree, beta: Tensor) -> Tensor:
        """Adds the gradient of a part of the batch, and gives its objective and log likelihood, all times its share."""
        loss, log_likelihood, _ = self.objective(x, y, beta)
        torch.autograd.backward(self.update.scale(loss), None if share == 1 else loss.new_tensor(share))
        return torch.stack([loss.detach(), log_likelihood.detach()]) * share

    def trace(self, x: Tree, y: Tree) -> tuple[Graph, TrainState]:
        """The step on batches of this size as one graph, and the state that it is on."""
        graph, state = trace_step(self.objective, self.update, x, y)
        return graph, state.map(Tensor.detach)

    def trained(self) -> list[str]:
        """Names of the parameters that ``StepOutput.is_finite`` speaks of, in its order; known after a step."""
        return [name for name, parameter in self.objective.named_parameters() if parameter in self.optimizer.state]

    def find_nonfinite(self) -> list[str]:
        """Names of the trained parameters that are not finite, or whose state in the optimizer is not."""
        state = self.optimizer.state
        found = {
            name: torch.stack(
                [
                    tensor.isfinite().all().to(parameter.device)  # torch keeps some counts of steps on the CPU
                    for tensor in (parameter.detach(), *state[parameter].values())
                    if isinstance(tensor, Tensor)
                ]
            ).all()
            for name, parameter in self.objective.named_parameters()
            if parameter in state
        }
        finite = torch.stack(list(found.values())).tolist() if found else []  # a GPU is asked once
        return [name for name, is_finite in zip(found, finite, strict=True) if not is_finite]
