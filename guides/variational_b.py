"""Variational dropout B (Kingma et al. 2015): independent noise on every weight with learned alpha <= 1."""

from __future__ import annotations

from pyro_vd.guides._gaussian import GaussianGuide, Share
from pyro_vd.guides._input_noise import LOG_ALPHA_INIT
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.priors import LogUniform

__all__ = ["Guide", "defaults", "prior"]

prior = LogUniform
defaults = SchemeDefaults()


class Guide(GaussianGuide):
    """Multiplicative noise with the bound alpha <= 1, a drop probability of at most one half.

    The parameter is log_alpha, in which the bound is a box. In log_sigma2 it is ``sigma <= |theta|``. Along that
    boundary Adam's steps in theta and in log_sigma2 do not cancel as the gradients of the KL do, and means and
    variances run to 0.

    Args:
        model: the lifted model.
        share: one alpha per ``"weight"``, per input ``"unit"`` or channel, or per ``"layer"``. The noise is
            independent in every case, so the KL counts weights.
        init: start of log_alpha, at most 0.

    Raises:
        UserError: for another share, a start outside the bounds, or a site without input units if units share alpha.

    References:
        Variational Dropout and the Local Reparameterization Trick, https://arxiv.org/abs/1506.02557, section 3.1.
    """

    defaults = defaults

    log_alpha_max = 0.0

    def __init__(self, model: LiftedModel, *, share: Share = "weight", init: float = LOG_ALPHA_INIT):
        super().__init__(model, parametrization="log_alpha", share=share, init=init)
