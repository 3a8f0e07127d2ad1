"""Local rules of multiplicative input noise: the noise goes onto the inputs, once per example.

Kingma et al. 2015, section 3.2. Scaling an input is scaling the weights that leave it. So for one use of a weight the
outputs have the joint distribution of a weight draw per example, including covariances between positions. The first
dimension counts examples (batch first; an unbatched sequence is read as a batch). A module used twice draws twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.handlers.rules.casting import call_with_cast
from pyro_vd.handlers.rules.noisy_weight import NoisyWeight, NoLocalRule, refuse_noisy_input, register_local
from pyro_vd.handlers.rules.operations import CONVOLUTIONS
from pyro_vd.posteriors import GroupScale, MultiplicativeNoise, WeightNormal
from pyro_vd.posteriors.train_mask import masks_any, train_mask

__all__ = ["noisy_inputs"]


@register_local((MultiplicativeNoise,), F.linear, *CONVOLUTIONS)
def noisy_inputs(
    op: Callable[..., Tensor],
    input: Tensor,
    weight: NoisyWeight,
    bias: Tensor | NoisyWeight | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    refuse_noisy_input(op, input)
    q = weight.q
    assert isinstance(q, MultiplicativeNoise)
    units_dim = 1 - q.theta.ndim  # (batch, ..., in) and (batch, in, positions...)
    if input.ndim < -units_dim or input.shape[units_dim] != q.inputs:
        raise NoLocalRule(
            f"{weight.handler}: {op.__name__} got an input of shape {tuple(input.shape)}, but weight {weight.site!r} "
            f"has noise for {q.inputs} inputs: the shape is wrong, or a convolution is grouped, which has no rule"
        )
    batched = input.ndim >= q.theta.ndim
    factors = _factors(q, weight.threshold, input.shape[:1] if batched else ())
    shape = [1] * input.ndim
    shape[0] = -1
    shape[units_dim] = q.inputs
    scaled = input * factors.reshape(shape)
    output: Tensor = call_with_cast(op, scaled, _multiplied(weight), bias, *args, **kwargs)
    return output


def _multiplied(weight: NoisyWeight) -> Tensor | NoisyWeight:
    """The weight that the scaled inputs meet: means, or Gaussian weights, whose own rule then samples the output."""
    q = weight.q
    if isinstance(q, GroupScale):
        return NoisyWeight(weight.site, q.weight, fallback=weight.fallback)
    assert isinstance(q, MultiplicativeNoise)
    return q.theta


def _factors(q: MultiplicativeNoise, threshold: float | Tensor, examples: tuple[int, ...]) -> Tensor:
    """Draws of the noise, (*examples, inputs). The factor of a masked unit has its variance and mean 0."""
    factors = q.noise.rsample(examples)
    if masks_any(threshold) and isinstance(q.noise, WeightNormal):
        factors = factors - torch.where(train_mask(q.noise, threshold), 0.0, q.noise.mean)
    return q.on_inputs(factors)
