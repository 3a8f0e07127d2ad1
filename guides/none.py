"""No noise: a point estimate of every weight, the baseline of every table."""

import pyro.distributions as dist

from guides._base import WeightGuide, start
from pyro_vd.distributions import Flat
from pyro_vd.lift import LiftedModel
from pyro_vd.sites import Sites

__all__ = ["Guide", "prior"]

prior = Flat


class Guide(WeightGuide):
    """q(w) = Delta(theta): maximum likelihood under the flat prior, MAP under a proper one."""

    def __init__(self, model: LiftedModel):
        super().__init__(model)
        self.theta = Sites(start(model))

    def q(self, site: str) -> dist.Delta:
        return dist.Delta(self.theta[site])
