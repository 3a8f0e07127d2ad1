"""The loss along the gradient: three measures of how well a gradient predicts what a step finds (Santurkar et al. 2018,
section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor, nn

from pyro_vd.inference.engine import Objective
from pyro_vd.process_state import fork_rng

__all__ = ["Landscape", "find_moved", "measure_landscape", "measure_pair"]


@dataclass(frozen=True)
class Landscape:
    """The loss L along its gradient g from one point w.

    Attributes:
        loss: L(w).
        norm: |g|, the l2 norm.
        losses: L(w - eta g) for every step size eta.
        changes: l2 distance of the gradient at w - eta g from g, for every step size: gradient predictiveness, which
            is better the smaller they are.
        smoothness: the largest change divided by the distance moved, eta |g|: effective beta-smoothness. It is 0 if g
            is 0, where nothing moves.
    """

    loss: float
    norm: float
    losses: tuple[float, ...]
    changes: tuple[float, ...]
    smoothness: float


def measure_landscape(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], step_sizes: Sequence[float]
) -> Landscape:
    """Takes a step of every size along the gradient, each from the same point, and comes back to it.

    Args:
        loss: the loss at the parameters' current values. If it has noise, it must draw the same noise at every call.
        parameters: what moves; leaves with gradients.
        step_sizes: multiples of the gradient, above 0.

    Example:
        >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> found = measure_landscape(lambda: (w * w).sum() / 2, [w], [0.5])  # gradient w, Hessian 1
        >>> found.losses, found.smoothness
        ((0.25,), 1.0)
    """
    start = [parameter.detach().clone() for parameter in parameters]
    value, gradient = _evaluate(loss, parameters)
    norm = _distance(gradient)
    losses, changes = [], []
    for size in step_sizes:
        _move(parameters, torch._foreach_sub(start, torch._foreach_mul(list(gradient), size)))
        there, moved = _evaluate(loss, parameters)
        losses.append(there)
        changes.append(_distance(gradient, moved))
    _move(parameters, start)
    ratios = [change / (size * norm) if norm else 0.0 for change, size in zip(changes, step_sizes, strict=True)]
    return Landscape(value, norm, tuple(losses), tuple(changes), max(ratios))


def measure_pair(
    objective: Objective, x: Tensor, y: Tensor, beta: Tensor, step_sizes: Sequence[float], seed: int
) -> tuple[Landscape, float]:
    """The landscape of a pair's objective, in nats per example, on a minibatch with one draw of the noise; and the l2
    distance of the gradient from that of another draw at the same point.

    Means of weights and deterministic parameters move; parameters of the noise do not. Parameters, buffers and random
    state are as before afterwards.

    Args:
        objective: of the pair.
        x, y: the minibatch.
        beta: weight of the KL, 0-dim.
        step_sizes: see ``measure_landscape``.
        seed: of the noise.
    """
    parameters = find_moved(objective)

    def loss(draw: int = seed) -> Tensor:
        torch.manual_seed(draw)  # the same noise at every point
        return objective(x, y, beta)[0] / objective.model.num_data

    with fork_rng(x), _kept_buffers(objective), pyro.validation_enabled(False):
        landscape = measure_landscape(loss, parameters, step_sizes)
        _, gradient = _evaluate(loss, parameters)
        _, other = _evaluate(lambda: loss(seed + 1), parameters)
    return landscape, _distance(gradient, other)


def find_moved(objective: Objective) -> list[Tensor]:
    """The means of the weights and the deterministic parameters, which networks without noise have too."""
    named = objective.named_parameters()
    return [parameter for name, parameter in named if name.startswith(("model.", "guide.theta."))]


def _evaluate(loss: Callable[[], Tensor], parameters: Sequence[Tensor]) -> tuple[float, Sequence[Tensor]]:
    value = loss()
    return value.item(), torch.autograd.grad(value, parameters, materialize_grads=True)


def _distance(tensors: Sequence[Tensor], others: Sequence[Tensor] | None = None) -> float:
    """l2 distance, or norm, over all tensors, summed in double precision."""
    differences = tensors if others is None else torch._foreach_sub(list(tensors), list(others))
    return sum(part.double().square().sum().item() for part in differences) ** 0.5


@torch.no_grad()
def _move(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


@contextmanager
def _kept_buffers(module: nn.Module) -> Iterator[None]:
    """Forward passes in training mode change the running averages of batch normalization; they are undone on exit."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    yield
    for buffer, old in before:
        buffer.copy_(old)
