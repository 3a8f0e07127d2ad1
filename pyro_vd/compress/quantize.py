"""Weights on a grid: as coarse as the posterior's own noise allows, or ordinary 8-bit integers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from pyro_vd.compress.copies import copy_of
from pyro_vd.errors import UserError
from pyro_vd.posterior import Posterior
from pyro_vd.posteriors import GroupScale, WeightNormal

__all__ = ["bits", "int8_step_sizes", "posterior_step_sizes", "quantize", "to_float16"]

INT8_MAX = 127


@torch.no_grad()
def posterior_step_sizes(posterior: Posterior, masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Site -> the width of a grid cell at which a finer grid costs more bits than it saves.

    Moving weights by errors uniform within a cell of width d costs d^2 / (24 sigma^2) nats each where the posterior's
    sigma is the likelihood's curvature, and naming a cell costs -log d and a constant. Their sum over a layer is least
    at d^2 = 12 / mean(1 / sigma^2). Louizos et al. 2017, section 4.2, take the noise for a rounding error in the same
    spirit, with a floating point format.

    Args:
        masks: site -> bools, the weights that are kept.

    Raises:
        TypeError: for a scheme whose weights have no variance of their own, naming the site.
        UserError: where a site keeps no weight, naming it.
    """
    return {site: _step(site, posterior.guide.q(site), masks[site]) for site in posterior.model.priors}


def _step(site: str, q: Distribution, mask: Tensor) -> float:
    variance = _own_variance(site, q)[mask]
    if not len(variance):
        raise UserError(f"{site!r}: no weight is kept; a higher threshold or a lower KL weight keeps some")
    if not bool((variance > 0).all()):
        raise TypeError(f"{site!r}: {type(q).__name__} without noise; int8_step_sizes needs none")
    return math.sqrt(12 / variance.double().reciprocal().mean().item())


def _own_variance(site: str, q: Distribution) -> Tensor:
    """Of each weight's own noise: a factor that many share says nothing of how finely one of them is known."""
    if isinstance(q, GroupScale):
        return q.on_weights(q.noise.mean.square()) * q.weight.variance
    if isinstance(q, WeightNormal | Normal):
        return q.variance
    raise TypeError(f"{site!r}: {type(q).__name__} has no variance per weight to take a grid from")


@torch.no_grad()
def int8_step_sizes(net: nn.Module) -> dict[str, float]:
    """Weight -> cell width at which its largest entry is +-127: symmetric 8-bit integers, one scale per tensor."""
    largest = {name: tensor.abs().max().item() for name, tensor in net.named_parameters() if tensor.ndim > 1}
    return {name: (value or 1.0) / INT8_MAX for name, value in largest.items()}


@torch.no_grad()
def quantize(net: nn.Module, steps: Mapping[str, float]) -> nn.Module:
    """A copy of ``net``, in eval mode, whose named weights are whole multiples of their steps; what rounds to 0 is
    pruned.

    Raises:
        UserError: for a step that is not above 0 and finite, naming its weight.
    """
    rounded = copy_of(net, "quantize")
    for name, step in steps.items():
        if not 0 < step < math.inf:
            raise UserError(f"quantize: the step of {name} is {step}; it has to be above 0 and finite")
        weight = rounded.get_parameter(name)
        weight.copy_((weight / step).round() * step)
    return rounded.eval()


@torch.no_grad()
def to_float16(net: nn.Module) -> nn.Module:
    """A copy of ``net``, in eval mode and float32, whose parameters are numbers that float16 has too: two bytes each on
    disk.

    Raises:
        UserError: for a parameter beyond float16's range, naming it.
    """
    rounded = copy_of(net, "to_float16")
    for name, parameter in rounded.named_parameters():
        half = parameter.half()
        if bool((half.isinf() & ~parameter.isinf()).any()):
            raise UserError(f"float16 ends at 65,504, and {name} goes beyond")
        parameter.copy_(half)
    return rounded.eval()


@torch.no_grad()
def bits(net: nn.Module, steps: Mapping[str, float]) -> dict[str, int]:
    """Weight -> bits of a signed integer that holds every cell it uses."""
    cells = {name: (net.get_parameter(name) / step).round().abs().max().item() for name, step in steps.items()}
    return {name: 1 + math.ceil(math.log2(cell + 1)) for name, cell in cells.items()}
