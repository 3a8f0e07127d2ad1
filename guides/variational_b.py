"""Variational dropout B (Kingma et al. 2015): independent noise on every weight with learned alpha <= 1."""

from __future__ import annotations

from typing import Literal

from pyro_vd.guides._gaussian import GaussianGuide
from pyro_vd.guides._input_noise import START
from pyro_vd.model.lift import LiftedModel
from pyro_vd.priors import LogUniform

__all__ = ["Guide", "prior"]

prior = LogUniform


class Guide(GaussianGuide):
    """Multiplicative noise with the bound alpha <= 1, a drop rate of at most one half.

    The parameter is log_alpha, in which the bound is a box. In log_sigma2 it is ``sigma <= |theta|``, and along that
    border Adam's steps in theta and in log_sigma2 do not cancel as the gradients of the KL do: means and variances run
    to 0.

    Args:
        model, share: as in :class:`pyro_vd.guides._gaussian.GaussianGuide`.
        init: start of log_alpha, at most 0.

    Raises:
        ValueError: for another share, or a start outside the bounds.

    References:
        Variational Dropout and the Local Reparameterization Trick, https://arxiv.org/abs/1506.02557, section 3.1.
    """

    log_alpha_max = 0.0

    def __init__(self, model: LiftedModel, init: float = START, share: Literal["weight", "unit", "layer"] = "weight"):
        super().__init__(model, "log_alpha", init, share)
