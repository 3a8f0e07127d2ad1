"""What every guide shares: one Pyro site per weight, parameters made eagerly, a projection after each step."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.distributions.event import of_one_weight
from pyro_vd.lift import LiftedModel
from pyro_vd.registered import Registered

__all__ = ["WeightGuide"]


class WeightGuide(Registered, ABC):
    """A guide over the weights of a lifted model. Subclasses say what q is for one site.

    Args:
        model: the lifted model; its network's weights are where the means start.

    Raises:
        ValueError: for a prior whose KL does not hold where the scheme's alpha goes.
    """

    log_alpha_max = 20.0  # where the projection keeps log_alpha

    def __init__(self, model: LiftedModel):
        super().__init__()
        self.sites = tuple(model.priors)
        if self.log_alpha_max > 0:
            _refuse_kingma(model)

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


def _refuse_kingma(model: LiftedModel) -> None:
    for site, prior in model.priors.items():
        if getattr(of_one_weight(prior), "kl", None) == "kingma":
            raise ValueError(
                f"{site!r}: LogUniform('kingma') holds for alpha <= 1, where only guides.variational_a and "
                "guides.variational_b stay; choose LogUniform('exact') or LogUniform('molchanov')"
            )


def start(model: LiftedModel) -> dict[str, Tensor]:
    """Copies of the network's weights, by site."""
    return {site: value.detach().clone() for site, value in model.initial.items()}
