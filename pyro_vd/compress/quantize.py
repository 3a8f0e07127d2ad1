"""Rounds weights: to a grid as coarse as the posterior's own noise allows, to 8-bit integers, or to float16."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from pyro_vd.compress.coding import read_step_size
from pyro_vd.compress.copies import copy_network
from pyro_vd.errors import UserError
from pyro_vd.posterior import Posterior
from pyro_vd.posteriors import GroupScale, WeightNormal

__all__ = ["bit_widths", "int8_step_sizes", "posterior_step_sizes", "quantize", "read_step_sizes", "round_to_float16"]

INT8_MAX = 127


@torch.no_grad()
def posterior_step_sizes(posterior: Posterior, masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Site -> step size of the grid below which a finer grid costs more bits than it saves.

    Rounding errors are uniform within a cell of width d. They cost d^2 / (24 sigma^2) nats per weight if the
    posterior's 1 / sigma^2 is the curvature of the likelihood. Coding a cell costs -log d nats and a constant. The sum
    over a layer is smallest at d^2 = 12 / mean(1 / sigma^2). Louizos et al. 2017, section 4.2, choose the precision of
    a floating point format by the posterior's noise for the same reason.

    Args:
        posterior: a trained pair.
        masks: site -> bools, True for the weights that are kept; only they count.

    Raises:
        TypeError: for a scheme whose weights have no variance of their own, naming the site.
        UserError: if a site keeps no weight, naming it.
    """
    return {site: _step_size(site, posterior.guide.q(site), masks[site]) for site in posterior.model.priors}


def _step_size(site: str, q: Distribution, mask: Tensor) -> float:
    variance = _own_variance(site, q)[mask]
    if not len(variance):
        raise UserError(f"{site!r}: no weight is kept; a higher threshold or a lower KL weight keeps some")
    if not bool((variance > 0).all()):
        raise TypeError(f"{site!r}: {type(q).__name__} has no noise; int8_step_sizes needs none")
    return math.sqrt(12 / variance.double().reciprocal().mean().item())


def _own_variance(site: str, q: Distribution) -> Tensor:
    """Variance of each weight's own noise. A factor that weights share does not say how precisely one is known."""
    if isinstance(q, GroupScale):
        return q.on_weights(q.noise.mean.square()) * q.weight.variance
    if isinstance(q, WeightNormal | Normal):
        return q.variance
    raise TypeError(f"{site!r}: {type(q).__name__} has no variance per weight to take a grid from")


@torch.no_grad()
def int8_step_sizes(net: nn.Module) -> dict[str, float]:
    """Weight -> step size at which its largest entry is +-127: symmetric 8-bit integers, one scale per tensor."""
    largest = {name: tensor.abs().max().item() for name, tensor in net.named_parameters() if tensor.ndim > 1}
    return {name: (value or 1.0) / INT8_MAX for name, value in largest.items()}


@torch.no_grad()
def quantize(net: nn.Module, step_sizes: Mapping[str, float]) -> nn.Module:
    """A copy of ``net`` in eval mode whose named weights are rounded to multiples of their step sizes.

    Weights that are rounded to 0 are pruned.

    Args:
        net: the network.
        step_sizes: weight -> step size of its grid.

    Raises:
        TypeError: for what is not a network.
        UserError: for a step size that is not above 0 and finite, of an unknown weight, or of a tied weight that has
            another one under its other name, naming the weight.
    """
    rounded = copy_network(net, "quantize")
    for name, step_size in read_step_sizes("quantize", net, step_sizes).items():
        weight = rounded.get_parameter(name)
        weight.copy_((weight / step_size).round() * step_size)
    return rounded.eval()


def read_step_sizes(caller: str, net: nn.Module, step_sizes: Mapping[str, float]) -> dict[str, float]:
    """Step sizes as Python's numbers, a tied weight's under the first of its names.

    Raises:
        UserError: as :func:`quantize`; ``caller`` begins the message.
    """
    if not isinstance(step_sizes, Mapping):
        raise UserError(f"{caller}: the step sizes are a {type(step_sizes).__name__}; give a dict, name -> step size")
    parameters = dict(net.named_parameters(remove_duplicate=False))
    unknown = [str(name) for name in step_sizes if name not in parameters]
    if unknown:
        raise UserError(f"{caller}: step sizes of parameters that the network does not have: {', '.join(unknown)}")
    firsts: dict[int, str] = {}
    found: dict[str, float] = {}
    for name, given in step_sizes.items():
        step = read_step_size(f"{caller}: the step size of {name}", given)
        first = firsts.setdefault(id(parameters[name]), name)
        if found.setdefault(first, step) != step:
            raise UserError(
                f"{caller}: {first} and {name} are one tensor, and their step sizes differ; give one of them"
            )
    return found


@torch.no_grad()
def round_to_float16(net: nn.Module) -> nn.Module:
    """A copy of ``net`` in eval mode, still in float32, whose parameters are rounded to numbers that float16 holds.

    :func:`pyro_vd.compress.save` then needs two bytes for each.

    Raises:
        UserError: for a parameter beyond float16's range, naming it.
    """
    rounded = copy_network(net, "round_to_float16")
    for name, parameter in rounded.named_parameters():
        half = parameter.half()
        if bool((half.isinf() & ~parameter.isinf()).any()):
            raise UserError(f"round_to_float16: the largest number of float16 is 65,504, and {name} goes beyond it")
        parameter.copy_(half)
    return rounded.eval()


@torch.no_grad()
def bit_widths(net: nn.Module, step_sizes: Mapping[str, float]) -> dict[str, int]:
    """Weight -> bits of the smallest signed integer type that holds all its multiples of the step size."""
    largest = {
        name: (net.get_parameter(name) / step_size).round().abs().max().item() for name, step_size in step_sizes.items()
    }
    return {name: 1 + math.ceil(math.log2(cell + 1)) for name, cell in largest.items()}
