"""Variational dropout B (Kingma et al. 2015): independent noise on every weight with learned alpha <= 1."""

from __future__ import annotations

from typing import Literal

import torch

from guides._gaussian import GaussianGuide
from pyro_vd.distributions import LogUniform
from pyro_vd.lift import LiftedModel

__all__ = ["Guide", "prior"]

prior = LogUniform


class Guide(GaussianGuide):
    """Like sparse variational dropout, with the bound alpha <= 1 (a drop rate of at most one half).

    References:
        Variational Dropout and the Local Reparameterization Trick, https://arxiv.org/abs/1506.02557, section 3.2.
    """

    log_alpha_max = 0.0

    def __init__(
        self,
        model: LiftedModel,
        parametrisation: Literal["log_sigma2", "log_alpha"] = "log_alpha",
        init: float | None = None,
        share: Literal["weight", "unit", "layer"] = "weight",
    ):
        super().__init__(model, parametrisation, init, share)
        self.project()  # a fixed log_sigma2 is above 2 log|theta| where theta starts small

    @torch.no_grad()
    def project(self) -> None:
        super().project()
        if self.parametrisation == "log_sigma2":
            for site, log_sigma2 in self.rate.items():
                theta = self.theta[site]
                # The set sigma^2 <= theta^2, sigma^2 >= e^-20 has no point below |theta| = e^-10.
                least = theta.new_tensor(self.bounds[0] / 2).exp()
                theta.copy_(torch.where(theta < 0, -1.0, 1.0) * theta.abs().clamp(min=least))
                torch.minimum(log_sigma2, 2 * theta.abs().log(), out=log_sigma2)
