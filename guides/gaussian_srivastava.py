"""Gaussian dropout S (Srivastava et al. 2014): each input unit is multiplied by N(1, p / (1 - p)), per example."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_vd.guides._drop_probabilities import drop_probabilities, log_alpha_from_p
from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.model.weight_guide import refuse_kingma_above_1
from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import LogUniform

__all__ = ["Guide", "defaults", "prior"]

prior = LogUniform
defaults = SchemeDefaults()


class Guide(InputNoiseGuide):
    """alpha = p / (1 - p) is a variance, and fixed, so the log-uniform prior on the unit's noise adds a constant.

    Args:
        model: the lifted model.
        p: drop probability in [0, 1) of the Bernoulli dropout with the same mean and variance, one for all sites or a
            dict by site.
        channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.

    Raises:
        UserError: for p outside [0, 1), channels that do not divide the inputs, a site without input units, or
            Kingma's cubic with p above one half.

    References:
        Dropout: A Simple Way to Prevent Neural Networks from Overfitting, section 10 (there p is the probability of
        keeping a unit).
    """

    defaults = defaults

    def __init__(
        self,
        model: LiftedModel,
        *,
        p: float | Mapping[str, float] = 0.5,
        channels: Mapping[str, int] | None = None,
    ):
        super().__init__(model, channels=channels)
        self.p = drop_probabilities(model, p)
        refuse_kingma_above_1(model, max(map(log_alpha_from_p, self.p.values())))

    def noise(self, site: str) -> WeightNormal:
        return self.gaussian(site, log_alpha_from_p(self.p[site]))
