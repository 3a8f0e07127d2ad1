"""Local rules of multiplicative input noise: the noise goes onto the inputs, once per example.

Kingma et al. 2015, section 3.2. Scaling an input is scaling the weights that leave it, so for one use of a weight the
outputs have the joint law of a weight draw per example, covariances between positions included. The first dimension
counts examples (batch first; a sequence without one is taken for a batch), and a module that is used twice draws twice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyro_vd.handlers.rules.casting import product
from pyro_vd.handlers.rules.noisy_weight import NoisyWeight, NoLocalRule, refuse_noisy_input, register_local
from pyro_vd.handlers.rules.operations import CONVOLUTIONS
from pyro_vd.posteriors import GroupScale, MultiplicativeNoise, WeightNormal
from pyro_vd.posteriors.train_mask import train_mask

__all__: list[str] = []


@register_local((MultiplicativeNoise,), F.linear, *CONVOLUTIONS)
def _noisy_inputs(op, input, weight, bias=None, *args, **kwargs):
    refuse_noisy_input(op, input)
    q: MultiplicativeNoise = weight.q
    units_dim = 1 - q.theta.ndim  # (batch, ..., in) and (batch, in, positions...)
    if input.ndim < -units_dim or input.shape[units_dim] != q.inputs:
        raise NoLocalRule(
            f"{weight.handler}: {op.__name__} got an input of shape {tuple(input.shape)}, where weight {weight.site!r} "
            f"has noise for {q.inputs} inputs: a wrong shape, or a grouped convolution, which has no rule"
        )
    batched = input.ndim >= q.theta.ndim
    factors = _factors(q, weight.threshold, input.shape[:1] if batched else ())
    shape = [1] * input.ndim
    shape[0] = -1
    shape[units_dim] = q.inputs
    return product(op, input * factors.reshape(shape), _multiplied(weight), bias, *args, **kwargs)


def _multiplied(weight: NoisyWeight) -> Tensor | NoisyWeight:
    """What the factors multiply: means, or Gaussian weights, whose own rule then samples the output."""
    q = weight.q
    if isinstance(q, GroupScale):
        return NoisyWeight(weight.site, q.weight, None, weight.fallback)
    return q.theta  # type: ignore[attr-defined]


def _factors(q: MultiplicativeNoise, threshold: float | Tensor | None, examples: tuple[int, ...]) -> Tensor:
    """(*examples, inputs) draws of the noise; where a unit is masked its mean is taken out and its variance stays."""
    factors = q.noise.rsample(examples)
    if threshold is not None and isinstance(q.noise, WeightNormal):
        factors = factors - torch.where(train_mask(q.noise, threshold), 0.0, q.noise.mean)
    return q.on_inputs(factors)
