"""Structured Bayesian pruning (Neklyudov et al. 2017): truncated log-normal noise on the input units."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.posteriors import TruncatedLogNormal
from pyro_vd.priors import TruncatedLogUniform
from pyro_vd.priors.truncated_log_uniform import LOWER, UPPER

__all__ = ["Guide", "defaults", "prior"]

prior = TruncatedLogUniform
defaults = SchemeDefaults(threshold=0.0, threshold_of="log_alpha of the unit", noise_lr=3.0)
LOG_SIGMA_BOUNDS = (-20.0, 5.0)
LOG_SIGMA_INIT = -5.0


class Guide(InputNoiseGuide):
    """Positive noise under a proper log-uniform prior. Units with a signal-to-noise ratio below 1 are pruned.

    log_alpha = -2 log snr, so the paper's rule is ``posterior.masks(0.0)``.

    Args:
        model: the lifted model.
        channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.

    Raises:
        UserError: as :class:`pyro_vd.guides.bernoulli.Guide`, for channels and sites.

    References:
        Structured Bayesian Pruning via Log-Normal Multiplicative Noise, https://arxiv.org/abs/1705.07283.
    """

    defaults = defaults

    def __init__(self, model: LiftedModel, *, channels: Mapping[str, int] | None = None):
        super().__init__(model, channels=channels)
        self.mu = self.per_unit(UPPER)
        self.log_sigma = self.per_unit(LOG_SIGMA_INIT)
        self.scale_theta_to_network()

    def noise(self, site: str) -> TruncatedLogNormal:
        return TruncatedLogNormal(self.mu[site], self.log_sigma[site])

    def bounds(self) -> dict[str, tuple[float, float]]:
        return self.site_bounds("mu", LOWER, UPPER) | self.site_bounds("log_sigma", *LOG_SIGMA_BOUNDS)
