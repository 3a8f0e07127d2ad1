"""flipout: one weight draw for the batch, with random signs of its own for every example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, Normal

from pyro_vd.handlers.rules.casting import call_with_cast
from pyro_vd.handlers.rules.input_noise import noisy_inputs
from pyro_vd.handlers.rules.noisy_weight import (
    NoisyWeight,
    awaits_noisy_weight,
    check_fallback,
    refuse_noisy_input,
    register_local,
)
from pyro_vd.handlers.rules.operations import CONVOLUTIONS
from pyro_vd.posteriors import InputNoise, WeightNormal

__all__ = ["FlippedWeight", "flipout", "flipped_output"]


class flipout(Messenger):
    r"""Gives every example a weight of its own, made from one weight draw for the batch.

    .. math:: y_n = \theta x_n + r_n \circ \Delta (x_n \circ s_n), \qquad
              w = \theta + \Delta, \quad r_n, s_n \in \{-1, 1\}^\text{units}

    :math:`\Delta`, symmetric around 0, is drawn once. The random signs, one per input unit or channel and one per
    output unit or channel, are drawn once for each example. Example n then meets the weight
    :math:`\theta + r_n s_n^\top \circ \Delta`, which is a draw from the posterior. So the outputs of one example have
    the joint distribution of weight sampling, over all positions of a convolution or a sequence and over the uses of a
    shared layer, for which ``local_reparam`` keeps means and variances only. Between examples the noise is uncorrelated
    but not independent (:math:`|\Delta|` is shared), and averages out over the batch. The cost is a weight draw and
    twice the products. The first dimension of the input counts examples; an unbatched sequence is read as a batch.

    The three examples below have two equal positions each. Weight sampling gives all positions one output, local
    reparameterization gives each its own, and here the positions of an example have one:

        >>> import pyro, torch
        >>> from pyro_vd.posteriors import WeightNormal
        >>> from pyro_vd.handlers import local_reparam
        >>> _ = pyro.set_rng_seed(0)
        >>> def program(x):
        ...     q = WeightNormal(torch.zeros(1, 8), log_sigma2=torch.zeros(1, 8))
        ...     return torch.nn.functional.linear(x, pyro.sample("w", q.to_event(2))).round(decimals=3)
        >>> x = torch.ones(3, 2, 8)
        >>> len(program(x).unique())
        1
        >>> with local_reparam():
        ...     len(program(x).unique())
        6
        >>> with flipout():
        ...     len(program(x).unique())
        3

    The rules are those of Gaussian weights and biases of linear, convolution and transposed convolution layers, and,
    as under ``local_reparam``, of the weights of input noise. A symmetric posterior of another type gets them by
    ``register_local(..., handler="flipout")``.

    Args:
        fallback: ``"raise"`` (default) names the site and the operation when there is no rule; ``"sample"`` gives
            that operation the weight draw itself.

    Raises:
        UserError: for another fallback.

    References:
        Flipout: Efficient Pseudo-Independent Weight Perturbations on Mini-Batches (Wen, Vicol, Ba, Tran, Grosse, 2018),
        https://arxiv.org/abs/1803.04386
    """

    def __init__(self, fallback: Literal["raise", "sample"] = "raise"):
        super().__init__()
        check_fallback("flipout", fallback)
        self.fallback = fallback

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if awaits_noisy_weight(msg, FlippedWeight.handler):
            msg["value"] = FlippedWeight(msg["name"], msg["fn"], self.fallback)
            msg["done"] = True


class FlippedWeight(NoisyWeight):
    """A noisy weight with the rules of :class:`flipout`. It keeps its draw and the signs of the examples.

    Args:
        site, q, fallback: as those of :class:`NoisyWeight`.
    """

    handler = "flipout"

    def __init__(self, site: str, q: Distribution, fallback: str = "raise"):
        super().__init__(site, q, fallback=fallback)
        self._signs: dict[tuple[str, int, int], Tensor] = {}

    def deviation(self) -> Tensor:
        """Draw minus mean, the same on every call, shape of the weight."""
        return self.draw() - self.q.mean

    def flip(self, x: Tensor, side: Literal["in", "out"], ndim: int) -> Tensor:
        """x times one sign for each example and unit of this side, at all positions.

        The signs are the same on every call, so that an example meets the same weight in every use of the layer.

        Args:
            x: (batch, ..., units) if ndim is 2, else (batch, units, positions...); or the same without a batch.
            side: input or output units.
            ndim: dimensions of the layer's weight.
        """
        units_dim = 1 - ndim
        examples = len(x) if x.ndim >= ndim else 1
        shape = [1] * x.ndim
        shape[0] = -1
        shape[units_dim] = x.shape[units_dim]  # dimension 0 itself if x is one unbatched example
        return x * self._signs_of(side, examples, x.shape[units_dim]).reshape(shape)

    def _signs_of(self, side: str, examples: int, units: int) -> Tensor:
        key = side, examples, units
        if key not in self._signs:
            self._signs[key] = 2 * torch.randint(2, (examples, units), dtype=self.dtype, device=self.device) - 1
        return self._signs[key]


@register_local((WeightNormal, Normal), F.linear, *CONVOLUTIONS, handler="flipout")
def flipped_output(
    op: Callable[..., Tensor],
    input: Tensor,
    weight: FlippedWeight | Tensor,
    bias: FlippedWeight | Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """The rule of any op(input, weight, bias, ...) whose outputs of one unit are linear in its weights and bias."""
    refuse_noisy_input(op, input)
    flipped = weight if isinstance(weight, FlippedWeight) else bias
    assert isinstance(flipped, FlippedWeight)
    mean: Tensor = call_with_cast(op, input, _mean(weight), _mean(bias), *args, **kwargs)
    # The output's signs flip a random bias too: its noise is as symmetric as the weights'.
    shift = bias.deviation() if isinstance(bias, FlippedWeight) else None
    noise = op(flipped.flip(input, "in", weight.ndim), _deviation(weight), shift, *args, **kwargs)
    return mean + flipped.flip(noise, "out", weight.ndim)


def _mean(weight: FlippedWeight | Tensor | None) -> Tensor | None:
    return weight.q.mean if isinstance(weight, FlippedWeight) else weight


def _deviation(weight: FlippedWeight | Tensor) -> Tensor:
    return weight.deviation() if isinstance(weight, FlippedWeight) else torch.zeros_like(weight)


# Input noise is drawn once for each example without signs.
register_local((InputNoise,), F.linear, *CONVOLUTIONS, handler="flipout")(noisy_inputs)
