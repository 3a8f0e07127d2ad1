"""EagerStep: one (model, guide) pair in training, with its objective, its Adam and the step of both, eagerly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyro
import torch
from torch import Tensor

from pyro_vd.inference.engine.adam import BETAS, EPS, group_parameters
from pyro_vd.inference.engine.compiled_step import Graph, TrainState, trace_step
from pyro_vd.inference.engine.objective import Objective
from pyro_vd.inference.engine.step_output import StepOutput

__all__ = ["EagerStep"]


class EagerStep:
    """One pair in training.

    Args:
        objective: the module to step.
        lr, lr_scale: Adam's learning rates, see :func:`~pyro_vd.inference.engine.adam.group_parameters`.

    Raises:
        UserError: for a word of ``lr_scale`` that names no parameter.
    """

    def __init__(self, objective: Objective, lr: float, lr_scale: Mapping[str, float] | None = None):
        self.objective = objective
        groups = group_parameters(objective, lr, lr_scale or {})
        objective.guide.project()  # every step ends inside the bounds, so the first one must start there
        self.optimizer = torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=True)
        self._parameters = list(objective.parameters())
        self._buffers = list(objective.statistics().values())

    @property
    def members(self) -> list[EagerStep]:
        """Itself: the pairs that :meth:`step` steps, see :class:`~pyro_vd.inference.engine.ensemble.Ensemble`."""
        return [self]

    def set_lr(self, factor: float) -> None:
        """Sets every group's learning rate to its base rate times ``factor``."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def set_threshold(self, threshold: float) -> None:
        """Sets the train-time masking threshold; ``math.inf`` for no masking."""
        self.objective.set_threshold(threshold)

    def per_member(self, x: Tensor, y: Tensor) -> Iterator[tuple[EagerStep, Tensor, Tensor]]:
        """Every pair with its own part of the batch."""
        yield self, x, y

    def step(self, x: Tensor, y: Tensor, beta: Tensor) -> StepOutput:
        """One eager step, with ``beta`` the KL weight as a 0-dim tensor. A non-finite step changes nothing."""
        before = [buffer.clone() for buffer in self._buffers]
        with pyro.validation_enabled(False):
            loss, log_likelihood, _ = self.objective(x, y, beta)
            torch.autograd.backward(loss)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        is_finite = torch.stack([loss.detach(), *torch._foreach_norm(gradients)]).isfinite()
        accept = is_finite.all()
        # The fused kernel leaves parameters and moments alone if found_inf is 1, without asking the host. Both are
        # attributes that torch.amp.GradScaler sets, too.
        vars(self.optimizer).update(found_inf=(~accept).float(), grad_scale=None)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.objective.guide.project()
        for buffer, old in zip(self._buffers, before, strict=True):  # BatchNorm averages before any loss is known
            buffer.copy_(torch.where(accept, buffer, old))
        return StepOutput(log_likelihood.detach(), is_finite)

    def trace(self, x: Tensor, y: Tensor) -> tuple[Graph, TrainState]:
        """The step on batches of this size as one graph, and the state that it is on."""
        graph, state = trace_step(self.objective, self.optimizer, x, y)
        return graph, state.map(Tensor.detach)

    def trained(self) -> list[str]:
        """Names of the parameters that ``StepOutput.is_finite`` speaks of, in its order; known after a step."""
        return [name for name, parameter in self.objective.named_parameters() if parameter in self.optimizer.state]

    def find_nonfinite(self) -> list[str]:
        """Names of the trained parameters that are not finite, or whose state in Adam is not."""
        state = self.optimizer.state
        found = {
            name: torch.stack(
                [tensor.isfinite().all() for tensor in (parameter.detach(), *state[parameter].values())]
            ).all()
            for name, parameter in self.objective.named_parameters()
            if parameter in state
        }
        finite = torch.stack(list(found.values())).tolist() if found else []  # a GPU is asked once
        return [name for name, is_finite in zip(found, finite, strict=True) if not is_finite]
