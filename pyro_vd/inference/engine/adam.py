"""Adam: PyTorch's for an eager step, and its rule as tensor operations for a step that is one graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError

__all__ = ["BETAS", "EPS", "AdamState", "adam_state", "group_parameters", "step_adam"]

BETAS, EPS = (0.9, 0.999), 1e-8


def group_parameters(objective: nn.Module, lr: float, lr_scale: Mapping[str, float]) -> list[dict[str, Any]]:
    """Adam's parameter groups: ``lr_scale`` multiplies the rate of parameters with that word in their dotted name.

    Raises:
        UserError: for a word that names no parameter.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    unused = set(lr_scale)
    for name, parameter in objective.named_parameters():
        words = [word for word in name.split(".") if word in lr_scale]
        unused -= set(words)
        factor = lr_scale[words[0]] if words else 1.0
        groups.setdefault(factor, []).append(parameter)
    if unused:
        raise UserError(f"lr_scale names no parameter: {', '.join(sorted(unused))}")
    return [{"params": params, "lr": lr * factor, "base_lr": lr * factor} for factor, params in groups.items()]


class AdamState(NamedTuple):
    """What ``torch.optim.Adam(fused=True)`` keeps for one parameter, under its names."""

    step: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


def adam_state(optimizer: torch.optim.Adam, parameter: Tensor) -> AdamState:
    """The optimizer's own tensors for this parameter. Before the first step they are made, of zeros."""
    zeros = AdamState(
        torch.zeros((), dtype=torch.float32, device=parameter.device),
        torch.zeros_like(parameter, requires_grad=False),
        torch.zeros_like(parameter, requires_grad=False),
    )
    state = optimizer.state[parameter]
    state.update({key: value for key, value in zeros._asdict().items() if key not in state})
    return AdamState(**{key: state[key] for key in AdamState._fields})


def step_adam(parameter: Tensor, gradient: Tensor, state: AdamState, lr: Tensor) -> tuple[Tensor, AdamState]:
    """One step of Adam (Kingma and Ba 2015, algorithm 1, in the order of operations at the end of its section 2).

    Returns the new parameter and state; changes nothing.
    """
    first, second = BETAS
    step = state.step + 1
    exp_avg = state.exp_avg.lerp(gradient, 1 - first)
    exp_avg_sq = state.exp_avg_sq * second + (1 - second) * gradient * gradient
    root = _correction(second, step).sqrt()
    rate = (lr * root / _correction(first, step)).to(parameter.dtype)
    # The corrections are applied to the scalars, so that every entry costs one division and one root.
    parameter = parameter - rate * (exp_avg / (exp_avg_sq.sqrt() + (EPS * root).to(parameter.dtype)))
    return parameter, AdamState(step, exp_avg, exp_avg_sq)


def _correction(beta: float, step: Tensor) -> Tensor:
    """1 - beta^step, without the digits that the subtraction would lose in the first steps."""
    return -torch.expm1(step * math.log(beta))
