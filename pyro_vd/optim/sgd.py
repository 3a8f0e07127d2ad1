"""SGD: torch's for an eager step, and its rule as tensor operations for a step that is one graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.inference.user_numbers import to_number
from pyro_vd.optim.adam import LARGEST_DECAY
from pyro_vd.optim.optimizer import Group, Optimizer, State

__all__ = ["SGD"]


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, ``torch.optim.SGD``.

    The gradient is that of the loss per training example, so that a learning rate has the meaning that it has for a
    mean loss in PyTorch.

    Attributes:
        momentum: at least 0 and less than 1. 0 for none.
        nesterov: Nesterov's momentum.
        weight_decay: this times the weights is added to their gradient (an L2 penalty).

    Raises:
        UserError: for a number out of range, or Nesterov's momentum without momentum.

    Example:
        >>> SGD(momentum=0.9, nesterov=True, weight_decay=5e-4)
        SGD(momentum=0.9, nesterov=True, weight_decay=0.0005)
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "momentum", to_number("SGD: momentum", self.momentum, 0.0, 1.0))
        decay = to_number("SGD: weight_decay", self.weight_decay, 0.0, LARGEST_DECAY)
        object.__setattr__(self, "weight_decay", decay)
        if self.momentum == 1.0:
            raise UserError("SGD: momentum=1 must be less than 1")
        if not isinstance(self.nesterov, bool):
            raise UserError(f"SGD: nesterov={self.nesterov!r} must be True or False")
        if self.nesterov and not self.momentum:
            raise UserError("SGD: nesterov=True needs a momentum, such as momentum=0.9")

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            groups, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay, fused=True
        )

    def init_state(self, parameter: Tensor) -> State:
        # From zeros the first step gives the buffer that torch starts with, the gradient.
        return {"momentum_buffer": torch.zeros_like(parameter, requires_grad=False)} if self.momentum else {}

    def step(self, parameter: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        if self.momentum:
            buffer = self.momentum * state["momentum_buffer"] + gradient
            gradient = gradient + self.momentum * buffer if self.nesterov else buffer
            state = {"momentum_buffer": buffer}
        return parameter - lr.to(parameter.dtype) * gradient, state
