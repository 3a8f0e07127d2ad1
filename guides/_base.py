"""What every guide shares: one Pyro site per weight, parameters made eagerly, a projection after each step."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.lift import LiftedModel
from pyro_vd.registered import Registered

__all__ = ["WeightGuide"]


class WeightGuide(Registered, ABC):
    """A guide over the weights of a lifted model. Subclasses say what q is for one site.

    Args:
        model: the lifted model; its network's weights are where the means start.
    """

    def __init__(self, model: LiftedModel):
        super().__init__()
        self.sites = tuple(model.priors)

    @abstractmethod
    def q(self, site: str) -> Distribution:
        """Posterior of the weight at ``site``, with batch shape the weight's shape. Its KL may have any shape: it is
        summed."""

    def forward(self, x: Tensor | None = None, y: Tensor | None = None) -> None:
        self.register()
        for site in self.sites:
            q = self.q(site)
            pyro.sample(site, q.to_event(len(q.batch_shape)))  # type: ignore[attr-defined]

    def project(self) -> None:
        """Puts the parameters back into their admissible set; called after every optimiser step."""

    @torch.no_grad()
    def alive(self, site: str, threshold: float) -> Tensor:
        """Which weights the scheme keeps, a bool mask of the weight's shape; a scheme without a rate keeps all."""
        return torch.ones_like(self.q(site).mean, dtype=torch.bool)


def start(model: LiftedModel) -> dict[str, Tensor]:
    """Copies of the network's weights, by site."""
    return {site: value.detach().clone() for site, value in model.initial.items()}


def filled(model: LiftedModel, value: float) -> dict[str, Tensor]:
    """Tensors of the weights' shapes holding one number, by site."""
    return {site: torch.full_like(weight, value) for site, weight in model.initial.items()}
