"""Bayesian compression with group normal-Jeffreys priors (Louizos et al. 2017): a Gaussian scale per input unit."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_vd.guides._group_scale import LOG_SIGMA2_INIT, GroupScaleGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import GroupNormalJeffreys

__all__ = ["Guide", "defaults", "prior"]

prior = GroupNormalJeffreys
# With a factor of 1 hardly any unit is pruned, and with 10 too many.
defaults = SchemeDefaults(threshold=0.0, threshold_of="log_alpha of the scale", noise_lr=3.0)


class Guide(GroupScaleGuide):
    """log_alpha is that of the scale, shared by the weights of a group: ``posterior.masks`` prunes whole input units.

    The published thresholds on it are below 0, chosen layer by layer from histograms.

    Args:
        model: the lifted model.
        channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.

    Raises:
        UserError: as :class:`pyro_vd.guides.bernoulli.Guide`, for channels and sites.

    References:
        Bayesian Compression for Deep Learning, https://arxiv.org/abs/1705.08665, section 3.1.
    """

    defaults = defaults

    def __init__(self, model: LiftedModel, *, channels: Mapping[str, int] | None = None):
        super().__init__(model, channels=channels)
        self.z_mu = self.per_unit(1.0)
        self.z_log_sigma2 = self.per_unit(LOG_SIGMA2_INIT)

    def noise(self, site: str) -> WeightNormal:
        return WeightNormal(self.z_mu[site], log_sigma2=self.z_log_sigma2[site])
