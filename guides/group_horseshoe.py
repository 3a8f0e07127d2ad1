"""Bayesian compression with group horseshoe priors (Louizos et al. 2017): half-Cauchy scales, log-normal posteriors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_vd.guides._group_scale import LOG_SIGMA2_INIT, GroupScaleGuide
from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.posteriors import LogNormalParameters, LogNormalScale
from pyro_vd.priors import GroupHorseshoe

__all__ = ["Guide", "defaults", "prior"]

prior = GroupHorseshoe
defaults = SchemeDefaults(threshold=3.0, threshold_of="-log of the mode of the scale", noise_lr=3.0)


class Guide(GroupScaleGuide):
    """Scales are the root of four log-normal variables: two of the layer, two of the unit.

    The scales start at 1: the layer's factor starts at the prior's tau0, and the units' factors at its reciprocal. A
    group is pruned by the most likely value of its scale: ``posterior.masks(t)`` keeps scales whose mode is above
    exp(-t). Train-time masking, which uses log_alpha, has no effect on this scheme.

    Args:
        model: the lifted model.
        channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.

    Raises:
        UserError: as :class:`pyro_vd.guides.bernoulli.Guide`, for channels and sites.

    References:
        Bayesian Compression for Deep Learning, https://arxiv.org/abs/1705.08665, section 3.2.
    """

    defaults = defaults

    def __init__(self, model: LiftedModel, *, channels: Mapping[str, int] | None = None):
        super().__init__(model, channels=channels)
        log_tau2 = {
            site: 2 * math.log(getattr(base_distribution(model.priors[site]), "tau0", 1.0)) for site in self.sites
        }
        self.s_gamma_mu = self._shifted(self.per_unit(0.0, "layer"), log_tau2, 1)
        self.s_gamma_log_sigma2 = self.per_unit(LOG_SIGMA2_INIT, "layer")
        self.s_inverse_mu = self.per_unit(0.0, "layer")
        self.s_inverse_log_sigma2 = self.per_unit(LOG_SIGMA2_INIT, "layer")
        self.z_gamma_mu = self.per_unit(0.0)
        self.z_gamma_log_sigma2 = self.per_unit(LOG_SIGMA2_INIT)
        self.z_inverse_mu = self._shifted(self.per_unit(0.0), log_tau2, -1)
        self.z_inverse_log_sigma2 = self.per_unit(LOG_SIGMA2_INIT)
        self.scale_theta_to_network()

    def noise(self, site: str) -> LogNormalScale:
        return LogNormalScale(
            LogNormalParameters(self.s_gamma_mu[site], self.s_gamma_log_sigma2[site]),
            LogNormalParameters(self.s_inverse_mu[site], self.s_inverse_log_sigma2[site]),
            LogNormalParameters(self.z_gamma_mu[site], self.z_gamma_log_sigma2[site]),
            LogNormalParameters(self.z_inverse_mu[site], self.z_inverse_log_sigma2[site]),
        )

    @torch.no_grad()
    def keep_mask(self, site: str, threshold: float) -> Tensor:
        """-log mode of the scale < threshold, bools of the weight's shape."""
        q = self.q(site)
        keep = -self.noise(site).log_mode < threshold
        return q.on_weights(keep).expand(q.theta.shape)

    @staticmethod
    @torch.no_grad()
    def _shifted(parameters: SiteParameters, by: Mapping[str, float], sign: int) -> SiteParameters:
        for site, parameter in parameters.named_parameters():
            parameter.add_(sign * by[site])
        return parameters
