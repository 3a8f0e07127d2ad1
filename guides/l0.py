"""L0 regularisation (Louizos, Welling, Kingma 2018): hard-concrete gates on the input units."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.weight_guide import within
from pyro_vd.posteriors import HardConcrete
from pyro_vd.priors import L0

__all__ = ["Guide", "prior"]

prior = L0
LARGEST_START = 0.9  # not far above it the gate is 0 at test time, and no theta makes up for that
BOUND = math.log(100.0)  # of the gates' location, as in the authors' code


class Guide(InputNoiseGuide):
    """Each input unit or channel is multiplied by a gate, and the prior charges for every weight behind an open one.

    Args:
        model, channels: as in :class:`pyro_vd.guides.bernoulli.Guide`.
        init: 1 - sigmoid(location) at the start, the authors' drop rate, in (0, 0.9); theta makes up for it.

    Raises:
        ValueError: for init out of range, and what :class:`pyro_vd.guides.bernoulli.Guide` refuses.

    References:
        Learning Sparse Neural Networks through L0 Regularization, https://arxiv.org/abs/1712.01312.
    """

    def __init__(self, model: LiftedModel, init: float = 0.5, channels: dict[str, int] | None = None):
        super().__init__(model, channels)
        if not 0 < init < LARGEST_START:
            raise ValueError(f"init={init} is the gates' drop probability: it has to be in (0, {LARGEST_START})")
        self.init = init
        self.location = self.per_unit(math.log((1 - init) / init))
        self.start_at_the_network()

    def noise(self, site: str) -> HardConcrete:
        return HardConcrete(self.location[site])

    @torch.no_grad()
    def keep_mask(self, site: str, threshold: float) -> Tensor:
        """Weights behind gates that are open at test time; there is no threshold to choose."""
        q = self.q(site)
        return (q.on_weights(q.noise.mean) > 0).expand(q.theta.shape)

    def bounds(self) -> dict[str, tuple[float, float]]:
        return within("location", self.location, -BOUND, BOUND)
