"""Adam and AdamW: torch's for an eager step, and their rule as tensor operations for a step that is one graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.inference.user_numbers import to_number
from pyro_vd.optim.optimizer import Group, Optimizer, State

__all__ = ["LARGEST_DECAY", "Adam", "AdamW"]

LARGEST_DECAY = 1e6  # of any optimizer


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), ``torch.optim.Adam`` without weight decay. The default of ``fit``.

    A parameter moves by about the learning rate in each step, whatever the size of its gradient.

    Attributes:
        betas: decay rates of the two moments, at least 0 and less than 1.
        eps: added to the root of the second moment. The gradient is that of the whole objective in nats, not per
            example.

    Raises:
        UserError: for a number out of range.

    Example:
        >>> Adam(betas=[0.9, 0.99])
        Adam(betas=(0.9, 0.99), eps=1e-08)
    """

    per_example: ClassVar[bool] = False

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "betas", _read_betas(name, self.betas))
        object.__setattr__(self, "eps", to_number(f"{name}: eps", self.eps, 0.0, 1.0))

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps, fused=True)

    def init_state(self, parameter: Tensor) -> State:
        return {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
        }

    def step(self, parameter: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """One step (algorithm 1, in the order of operations at the end of the paper's section 2)."""
        first, second = self.betas
        step = state["step"] + 1
        exp_avg = state["exp_avg"].lerp(gradient, 1 - first)
        exp_avg_sq = state["exp_avg_sq"] * second + (1 - second) * gradient * gradient
        root = _correction(second, step).sqrt()
        rate = (lr * root / _correction(first, step)).to(parameter.dtype)
        # The corrections are applied to the scalars, so that every entry costs one division and one root.
        parameter = parameter - rate * (exp_avg / (exp_avg_sq.sqrt() + (self.eps * root).to(parameter.dtype)))
        return parameter, {"step": step, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), ``torch.optim.AdamW``.

    Attributes:
        betas, eps: as for :class:`Adam`.
        weight_decay: each step multiplies weights by ``1 - lr * weight_decay``.

    Raises:
        UserError: for a number out of range.

    Example:
        >>> AdamW(weight_decay=0.05)
        AdamW(betas=(0.9, 0.999), eps=1e-08, weight_decay=0.05)
    """

    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        decay = to_number("AdamW: weight_decay", self.weight_decay, 0.0, LARGEST_DECAY)
        object.__setattr__(self, "weight_decay", decay)

    def make(self, groups: list[Group]) -> torch.optim.Optimizer:
        decay = self.weight_decay
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, weight_decay=decay, fused=True)

    def step(self, parameter: Tensor, gradient: Tensor, state: State, lr: Tensor) -> tuple[Tensor, State]:
        """One step: the decay, then Adam's."""
        if self.weight_decay:
            parameter = parameter * (1 - lr * self.weight_decay).to(parameter.dtype)
        return super().step(parameter, gradient, state, lr)


def _read_betas(name: str, betas: Sequence[float]) -> tuple[float, float]:
    try:
        first, second = betas
    except (TypeError, ValueError):
        raise UserError(f"{name}: betas={betas!r} must be two numbers, such as (0.9, 0.999)") from None
    found = to_number(f"{name}: betas[0]", first, 0.0, 1.0), to_number(f"{name}: betas[1]", second, 0.0, 1.0)
    if max(found) == 1.0:
        raise UserError(f"{name}: betas={found} must be less than 1")
    return found


def _correction(beta: float, step: Tensor) -> Tensor:
    """1 - beta^step, without the digits that the subtraction would lose in the first steps."""
    return -torch.expm1(step * (math.log(beta) if beta else -math.inf))
