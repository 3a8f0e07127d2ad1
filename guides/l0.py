"""L0 regularization (Louizos, Welling, Kingma 2018): hard-concrete gates on the input units."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.posteriors import HardConcrete
from pyro_vd.priors import L0

__all__ = ["Guide", "defaults", "prior"]

prior = L0
defaults = SchemeDefaults(threshold=0.0, noise_lr=10.0)  # the gates do not read the threshold
INIT_MAX = 0.9  # slightly above it the gate is 0 at test time, and no theta can compensate for that
LOCATION_BOUND = math.log(100.0)  # as in the authors' code


class Guide(InputNoiseGuide):
    """Each input unit or channel is multiplied by a gate, and the prior charges for every weight behind an open one.

    Args:
        model: the lifted model.
        init: 1 - sigmoid(location) at the start, the authors' drop rate, in (0, 0.9). theta is divided by the gate, so
            that the posterior's mean is the network.
        channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.

    Raises:
        UserError: for init out of range, and as :class:`pyro_vd.guides.bernoulli.Guide`, for channels and sites.

    References:
        Learning Sparse Neural Networks through L0 Regularization, https://arxiv.org/abs/1712.01312.
    """

    defaults = defaults

    def __init__(self, model: LiftedModel, *, init: float = 0.5, channels: Mapping[str, int] | None = None):
        super().__init__(model, channels=channels)
        if not 0 < init < INIT_MAX:
            raise UserError(f"init={init} is the gates' drop probability: it must be in (0, {INIT_MAX})")
        self.init = init
        self.location = self.per_unit(math.log((1 - init) / init))
        self.scale_theta_to_network()

    def noise(self, site: str) -> HardConcrete:
        return HardConcrete(self.location[site])

    @torch.no_grad()
    def keep_mask(self, site: str, threshold: float) -> Tensor:
        """The weights behind gates that are open at test time. The threshold is not used."""
        q = self.q(site)
        return (q.on_weights(q.noise.mean) > 0).expand(q.theta.shape)

    def bounds(self) -> dict[str, tuple[float, float]]:
        return self.site_bounds("location", -LOCATION_BOUND, LOCATION_BOUND)
