"""Gaussian dropout W (Wang and Manning 2013): independent noise of variance alpha theta^2 per weight, alpha fixed."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_vd.guides._drop_probabilities import drop_probabilities, log_alpha_from_p
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.model.weight_guide import WeightGuide, refuse_kingma_above_1
from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import LogUniform

__all__ = ["Guide", "defaults", "prior"]

prior = LogUniform
defaults = SchemeDefaults()


class Guide(WeightGuide):
    """The pre-activation gets the variance that dropout with probability p would give it.

    alpha = p / (1 - p) is fixed, so the log-uniform prior adds a constant.

    Args:
        model: the lifted model.
        p: drop probability in [0, 1), one for all sites or a dict by site.

    Raises:
        UserError: for p outside [0, 1), or Kingma's cubic with p above one half.

    References:
        Fast dropout training (Wang and Manning 2013); Kingma et al. 2015, section 3.1.
    """

    defaults = defaults

    def __init__(self, model: LiftedModel, *, p: float | Mapping[str, float] = 0.5):
        super().__init__(model)
        self.p = drop_probabilities(model, p)
        refuse_kingma_above_1(model, max(map(log_alpha_from_p, self.p.values())))

    def q(self, site: str) -> WeightNormal:
        theta = self.theta[site]
        return WeightNormal(theta, log_alpha=theta.new_full((), log_alpha_from_p(self.p[site])))
