"""Concrete dropout (Gal, Hron, Kendall 2017): dropout whose rate is learned through a continuous relaxation."""

from __future__ import annotations

import math
from typing import Literal

import pyro.distributions as dist
import torch

from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.weight_guide import within
from pyro_vd.posteriors import ScaledConcrete

__all__ = ["Guide", "prior"]

prior = dist.Normal(0.0, 1.0)
BOUND = 12.0  # of the logit: at p below 1e-5 or above 1 - 1e-5 float32 has no more gradient to offer


class Guide(InputNoiseGuide):
    """Relaxed dropout of the input units with learned probability; a narrower Normal prior decays weights more.

    Args:
        model, channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.
        share: one probability per ``"layer"``, as in the paper, or per input ``"unit"`` or channel.
        init: start of the drop probability, in (0, 1).
        temperature: of the relaxation, above 0.

    Raises:
        ValueError: for another share, a number out of range, a prior whose mean is not 0, and what
            :class:`pyro_vd.guides.bernoulli.Guide` refuses.

    References:
        Concrete Dropout, https://arxiv.org/abs/1705.07832.
    """

    def __init__(
        self,
        model: LiftedModel,
        share: Literal["layer", "unit"] = "layer",
        init: float = 0.1,
        temperature: float = 0.1,
        channels: dict[str, int] | None = None,
    ):
        super().__init__(model, channels)
        if share not in ("layer", "unit"):
            raise ValueError(f"share={share!r} is not one of layer, unit: input noise has one variable per unit")
        if not 0 < init < 1 or not 0 < temperature < math.inf:
            raise ValueError(f"init={init} has to be in (0, 1) and temperature={temperature} above 0")
        for site, p in model.priors.items():
            if (getattr(base_distribution(p), "loc", torch.zeros(())) != 0).any():
                raise ValueError(f"{site!r}: concrete dropout needs a prior of mean 0, for a dropped weight is 0")
        self.temperature, self.init = temperature, init
        self.options |= {"share": share, "temperature": temperature}
        self.logit_p = self.per_unit(math.log(init / (1 - init)), share)

    def noise(self, site: str) -> ScaledConcrete:
        return ScaledConcrete(self.logit_p[site].expand(self.units[site]), self.temperature)

    def bounds(self) -> dict[str, tuple[float, float]]:
        return within("logit_p", self.logit_p, -BOUND, BOUND)
