"""Local rules of factorized Gaussian weights: the output of a linear operation is Gaussian with known moments.

Kingma et al. 2015, eqs. 4-6 (dense), Molchanov et al. 2017, section 4.3 (convolution).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Normal, constraints

from pyro_vd.handlers.rules.casting import call_with_cast, full_precision
from pyro_vd.handlers.rules.noisy_weight import NoisyWeight, NoLocalRule, refuse_noisy_input, register_local
from pyro_vd.handlers.rules.operations import CONVOLUTIONS, MATMULS
from pyro_vd.posteriors import WeightNormal
from pyro_vd.posteriors.train_mask import masks_any, train_mask

__all__ = ["GAUSSIANS", "VARIANCE_FLOOR"]

# Zero inputs give a variance of exactly 0, fast convolution algorithms slightly negative ones. A clamp handles both and
# has no gradient there; a constant that is added would not handle negative values. The floor is far below any variance
# of a signal, even if inputs or targets are small numbers, and the gradient of its root, 5e14, is finite.
VARIANCE_FLOOR = 1e-30


class MeanVariance(TorchDistribution):
    """A weight of which only mean and variance are known: a noisy weight after scaling, transposing or splitting."""

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, mean: Tensor, variance: Tensor):
        self._mean, self._variance = mean, variance
        super().__init__(mean.shape, validate_args=False)

    mean = property(lambda self: self._mean)
    variance = property(lambda self: self._variance)


GAUSSIANS = (WeightNormal, Normal, MeanVariance)
SCALING_OPS = (torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
TRANSPOSE_OPS = (torch.t, torch.Tensor.t)
SPLIT_OPS = (torch.split, torch.Tensor.split, torch.chunk, torch.Tensor.chunk)


@register_local(GAUSSIANS, F.linear, *CONVOLUTIONS)
def _linear(
    op: Callable[..., Tensor],
    input: Tensor,
    weight: NoisyWeight | Tensor,
    bias: NoisyWeight | Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Any op(input, weight, bias, ...) that is linear in weight and in bias."""
    refuse_noisy_input(op, input)
    mean = call_with_cast(op, input, _mean(weight), None if bias is None else _mean(bias), *args, **kwargs)
    # A deterministic bias has no variance. Adding its value here is a known cause of NaN in convolution layers.
    bias_variance = _variance(bias) if isinstance(bias, NoisyWeight) else None
    with _full_precision(weight):
        variance = op(input.to(weight.dtype).square(), _variance(weight), bias_variance, *args, **kwargs)
    return _sample(mean, variance)


@register_local(GAUSSIANS, F.embedding)
def _embedding(op: Callable[..., Tensor], input: Tensor, weight: NoisyWeight, *args: Any, **kwargs: Any) -> Tensor:
    return _sample(op(input, _mean(weight), *args, **kwargs), op(input, _variance(weight), *args, **kwargs))


@register_local(GAUSSIANS, *MATMULS)
def _matmul(op: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    left = args[0] if args else kwargs.pop("input")
    (right,) = (*args[1:], *kwargs.values())
    if isinstance(left, NoisyWeight) and isinstance(right, NoisyWeight):
        raise NoLocalRule(f"local_reparam: the product of {left.site!r} and {right.site!r} is not Gaussian")
    weight = left if isinstance(left, NoisyWeight) else right
    mean = call_with_cast(torch.matmul, _mean(left), _mean(right))
    with _full_precision(weight):
        variance = torch.matmul(*(_second_factor(side, weight.dtype) for side in (left, right)))
    return _sample(mean, variance)


@register_local(GAUSSIANS, *SCALING_OPS)
def _masked(op: Callable[..., Tensor], input: Any, other: Any) -> NoisyWeight:
    """weight * constant is a noisy weight again, so a pruning mask does not end the reparameterization."""
    weight, factor = (input, other) if isinstance(input, NoisyWeight) else (other, input)
    if isinstance(factor, NoisyWeight):
        raise NoLocalRule(f"local_reparam: the product of {weight.site!r} and {factor.site!r} is not Gaussian")
    factor = torch.as_tensor(factor, dtype=weight.dtype, device=weight.device)
    if torch.broadcast_shapes(factor.shape, weight.shape) != weight.shape:
        raise NoLocalRule(f"local_reparam: the factor of {weight.site!r} broadcasts it, and copies are not independent")
    moments = MeanVariance(_mean(weight) * factor, _variance(weight) * factor.square())
    return _derived(weight, moments, lambda: weight.draw() * factor)


@register_local(GAUSSIANS, *TRANSPOSE_OPS)
def _transposed(op: Callable[..., Tensor], input: NoisyWeight) -> NoisyWeight:
    moments = MeanVariance(_mean(input).t(), _variance(input).t())
    return _derived(input, moments, lambda: input.draw().t())


@register_local(GAUSSIANS, *SPLIT_OPS)
def _split(op: Callable[..., Any], input: NoisyWeight, *args: Any, **kwargs: Any) -> tuple[NoisyWeight, ...]:
    """The parts of a noisy weight are noisy weights. They are independent: no entry is in two of them."""

    def draw(i: int) -> Callable[[], Tensor]:
        return lambda: op(input.draw(), *args, **kwargs)[i]

    pieces = zip(op(_mean(input), *args, **kwargs), op(_variance(input), *args, **kwargs), strict=True)
    return tuple(_derived(input, MeanVariance(*moments), draw(i)) for i, moments in enumerate(pieces))


def _mean(weight: NoisyWeight | Tensor) -> Tensor:
    if not isinstance(weight, NoisyWeight):
        return weight
    theta = weight.q.mean
    if not masks_any(weight.threshold):
        return theta
    mask = train_mask(weight.q, weight.threshold, weight.started)
    return theta * mask.to(theta.dtype)  # not bools: compiled code is slow to write them on a CPU


def _variance(weight: NoisyWeight | Tensor) -> Tensor:
    return weight.q.variance if isinstance(weight, NoisyWeight) else torch.zeros_like(weight)


def _second_factor(side: NoisyWeight | Tensor, dtype: torch.dtype) -> Tensor:
    return side.q.variance if isinstance(side, NoisyWeight) else side.to(dtype).square()


@contextmanager
def _full_precision(weight: NoisyWeight | Tensor) -> Iterator[None]:
    """No autocast or matmul_precision inside: variances are sums of squares of very different sizes."""
    with full_precision(), ExitStack() as stack:
        if torch.is_autocast_enabled(weight.device.type):
            stack.enter_context(torch.autocast(weight.device.type, enabled=False))
        yield


def _derived(weight: NoisyWeight, q: MeanVariance, draw: Callable[[], Tensor]) -> NoisyWeight:
    # Train-time masking is already applied to the mean, so the new weight has no threshold.
    return NoisyWeight(weight.site, q, fallback=weight.fallback, draw=draw)


def _sample(mean: Tensor, variance: Tensor) -> Tensor:
    return mean + variance.clamp(min=VARIANCE_FLOOR).sqrt() * _noise_like(mean)


def _noise_like(mean: Tensor) -> Tensor:
    # Not randn_like: it keeps the channels-last layout of compiled convolutions, 5 times slower to fill on a CPU.
    return torch.randn(mean.shape, dtype=mean.dtype, device=mean.device)
