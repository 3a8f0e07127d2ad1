"""Concrete dropout (Gal, Hron, Kendall 2017): dropout whose probability is learned by a continuous relaxation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro.distributions as dist
import torch

from pyro_vd.errors import UserError
from pyro_vd.guides._input_noise import InputNoiseGuide, UnitShare, check_share
from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.posteriors import ConcreteDropout, ScaledConcrete

__all__ = ["Guide", "defaults", "prior"]

prior = dist.Normal(0.0, 1.0)
defaults = SchemeDefaults()
LOGIT_BOUND = 12.0  # p below 1e-5 or above 1 - 1e-5 has no gradient in float32


class Guide(InputNoiseGuide):
    """Relaxed dropout of the input units with learned probability. A narrower Normal prior decays weights more.

    Args:
        model: the lifted model.
        share: one probability per ``"layer"``, as in the paper, or per input ``"unit"`` or channel.
        temperature: of the relaxation, above 0.
        init: start of the drop probability, in (0, 1).
        channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.

    Raises:
        UserError: for another share, a number out of range, a prior whose mean is not 0, and as
            :class:`pyro_vd.guides.bernoulli.Guide`.

    References:
        Concrete Dropout, https://arxiv.org/abs/1705.07832.
    """

    defaults = defaults

    def __init__(
        self,
        model: LiftedModel,
        *,
        share: UnitShare = "layer",
        temperature: float = 0.1,
        init: float = 0.1,
        channels: Mapping[str, int] | None = None,
    ):
        super().__init__(model, channels=channels)
        check_share(share)
        if not 0 < init < 1 or not 0 < temperature < math.inf:
            raise UserError(f"init={init} must be in (0, 1) and temperature={temperature} above 0")
        for site, p in model.priors.items():
            if (getattr(base_distribution(p), "loc", torch.zeros(())) != 0).any():
                raise UserError(f"{site!r}: concrete dropout needs a prior of mean 0, because a dropped weight is 0")
        self.share, self.temperature, self.init = share, temperature, init
        self.logit_p = self.per_unit(math.log(init / (1 - init)), share)

    def noise(self, site: str) -> ScaledConcrete:
        return ScaledConcrete(self.logit_p[site].expand(self.units[site]), self.temperature)

    def q(self, site: str) -> ConcreteDropout:
        return ConcreteDropout(self.theta[site], self.noise(site), self.dims[site])

    def bounds(self) -> dict[str, tuple[float, float]]:
        return self.site_bounds("logit_p", -LOGIT_BOUND, LOGIT_BOUND)
