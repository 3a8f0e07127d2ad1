"""EagerStep: one (model, guide) pair in training, with its objective, its Adam and the step that both make eagerly."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor

from pyro_vd.inference.engine.adam import BETAS, EPS
from pyro_vd.inference.engine.compiled_step import StepOutput
from pyro_vd.inference.engine.objective import Objective

__all__ = ["EagerStep"]


class EagerStep:
    """One pair in training.

    Args:
        objective: the module to step.
        groups: Adam's parameter groups, see :func:`parameter_groups`.
    """

    def __init__(self, objective: Objective, groups: list[dict]):
        self.objective = objective
        objective.guide.project()  # steps keep what is inside there
        self.optimizer = torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=True)
        self._parameters = list(objective.parameters())
        self._buffers = list(objective.statistics().values())

    def set_lr(self, factor: float) -> None:
        """Sets every group's learning rate to its base rate times ``factor``."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def step(self, x: Tensor, y: Tensor, beta: Tensor) -> StepOutput:
        """One eager step, with ``beta`` the KL weight as a 0-dim tensor. A non-finite step changes nothing."""
        before = [buffer.clone() for buffer in self._buffers]
        with pyro.validation_enabled(False):
            loss, log_likelihood, _ = self.objective(x, y, beta)
            loss.backward()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        finite = torch.stack([loss.detach(), *torch._foreach_norm(gradients)]).isfinite()
        go = finite.all()
        # The fused kernel leaves parameters and moments alone where found_inf is 1, without asking the host.
        self.optimizer.found_inf = (~go).float()  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.objective.guide.project()
        for buffer, old in zip(self._buffers, before, strict=True):  # BatchNorm averages before any loss is known
            buffer.copy_(torch.where(go, buffer, old))
        return StepOutput(log_likelihood.detach(), finite)

    def trained(self) -> list[str]:
        """Names of the parameters that ``StepOutput.finite`` speaks of, in its order; known after a step."""
        return [name for name, parameter in self.objective.named_parameters() if parameter in self.optimizer.state]
