"""What every guide shares: one Pyro site per weight, parameters made eagerly, bounds that a projection keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.model.event import base_distribution
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.param_store import ParamStoreModule, is_param_store_disabled
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.posteriors.train_mask import mark_started

__all__ = ["WeightGuide"]


class WeightGuide(ParamStoreModule, ABC):
    """A guide over the weights of a lifted model. Subclasses say what q is for one site.

    Args:
        model: the lifted model; its network's weights are where the means start.

    Attributes:
        options: what else tells this guide from another with the same parameters, as JSON knows it; a checkpoint is
            refused by a pair with other options.
        started: site -> bools, the state of train-time masking (see ``local_reparam``); empty if means cannot start
            masked.
    """

    def __init__(self, model: LiftedModel):
        super().__init__()
        self.sites = tuple(model.priors)
        self.options: dict[str, Any] = {}
        self.started = SiteParameters({})
        self._projected: list[int] = []  # versions of the parameters at the last projection

    @abstractmethod
    def q(self, site: str) -> Distribution:
        """Posterior of the weight at ``site``, with batch shape the weight's shape. Its KL may have any shape: it is
        summed."""

    def forward(self, x: Tensor | None = None, y: Tensor | None = None) -> None:
        self.register_params()
        # pyro.infer.SVI steps without asking for the projection.
        if not is_param_store_disabled() and self._versions() != self._projected:
            self.project()
        for site in self.sites:
            q = self.q(site)
            infer = {"started": self.started[site]} if site in self.started else {}
            pyro.sample(site, q.to_event(len(q.batch_shape)), infer=infer)  # type: ignore[attr-defined]

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Parameter name -> the interval that its entries are kept in. Parameters that are not named are free."""
        return {}

    @torch.no_grad()
    def project(self) -> None:
        """Puts the parameters back into their bounds; done before a draw that follows a change, and by fit."""
        for name, (low, high) in self.bounds().items():
            # Not in place for autograd: several draws go into one backward pass, and it would take this for a change
            # of what it saved, though a second projection changes nothing.
            self.get_parameter(name).data.clamp_(low, high)
        self._projected = self._versions()

    def mark_started(self, threshold: float) -> None:
        """Lets train-time masking at this threshold mask the weights that are below it now; done by fit every epoch."""
        for site in self.started:
            mark_started(self.q(site), threshold, self.started[site])  # type: ignore[arg-type]

    def _versions(self) -> list[int]:
        return [parameter._version for parameter in self.parameters()]

    @torch.no_grad()
    def keep_mask(self, site: str, threshold: float) -> Tensor:
        """log_alpha < threshold, a bool mask of the weight's shape; a scheme without log_alpha keeps all.

        A weight whose mean is exactly 0 has log_alpha = +inf and goes.
        """
        q = self.q(site)
        return q.log_alpha < threshold if hasattr(q, "log_alpha") else torch.ones_like(q.mean, dtype=torch.bool)


def refuse_kingma_above_1(model: LiftedModel, log_alpha_max: float) -> None:
    """Kingma's cubic under a scheme whose alpha goes above 1 would be no approximation of anything.

    Raises:
        ValueError: naming the site.
    """
    for site, prior in model.priors.items():
        if log_alpha_max > 0 and getattr(base_distribution(prior), "kl", None) == "kingma":
            raise ValueError(
                f"{site!r}: LogUniform('kingma') holds for alpha <= 1, and this scheme's alpha goes above; choose "
                "LogUniform('exact') or LogUniform('molchanov'), or a scheme that stays below (variational_a or _b)"
            )


def within(name: str, sites: SiteParameters, low: float, high: float) -> dict[str, tuple[float, float]]:
    """Bounds for the parameters of the attribute ``name``."""
    return {f"{name}.{site}": (low, high) for site in sites}


def start(model: LiftedModel) -> dict[str, Tensor]:
    """Copies of the network's weights, by site."""
    return {site: value.detach().clone() for site, value in model.initial.items()}
