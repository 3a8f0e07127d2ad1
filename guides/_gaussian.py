"""Per-weight Gaussian noise in both parametrisations: what sparse and hierarchical share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from guides._base import WeightGuide, filled, start
from pyro_vd.distributions import WeightNormal
from pyro_vd.lift import LiftedModel
from pyro_vd.sites import Sites

__all__ = ["GaussianGuide"]

# Adam moves a parameter by about the learning rate per step whatever its gradient, so log parameters drift unless
# they are put back. A clamp in the forward pass would have zero gradient outside and freeze them there.
BOUNDS = {"log_sigma2": (-20.0, 4.0), "log_alpha": (-20.0, 20.0)}
START = {"log_sigma2": -10.0, "log_alpha": -8.0}


class GaussianGuide(WeightGuide):
    r"""q(w) = N(theta, sigma^2), independent over weights.

    Args:
        model: the lifted model.
        parametrisation: ``"log_sigma2"`` (additive, Molchanov et al. 2017, section 4.1) or ``"log_alpha"``
            (multiplicative, Kingma et al. 2015, section 3).
        init: starting value of that parameter; by default log_sigma2 = -10 or log_alpha = -8.

    Raises:
        ValueError: for another parametrisation or a start outside its bounds.
    """

    def __init__(
        self,
        model: LiftedModel,
        parametrisation: Literal["log_sigma2", "log_alpha"] = "log_sigma2",
        init: float | None = None,
    ):
        super().__init__(model)
        if parametrisation not in BOUNDS:
            raise ValueError(f"parametrisation={parametrisation!r} is not one of {', '.join(BOUNDS)}")
        init = START[parametrisation] if init is None else init
        low, high = BOUNDS[parametrisation]
        if not low <= init <= high:
            raise ValueError(f"init={init} is outside [{low}, {high}], the bounds of {parametrisation}")
        self.parametrisation = parametrisation
        self.theta = Sites(start(model))
        self.add_module(parametrisation, Sites(filled(model, init)))

    def q(self, site: str) -> WeightNormal:
        if self.parametrisation == "log_alpha":
            return WeightNormal(self.theta[site], log_alpha=self.rate[site])
        return WeightNormal(self.theta[site], log_sigma2=self.rate[site])

    @property
    def rate(self) -> Sites:
        """The noise parameters by site, named in ``state_dict`` after the parametrisation."""
        return self._modules[self.parametrisation]  # type: ignore[return-value]

    @torch.no_grad()
    def project(self) -> None:
        low, high = BOUNDS[self.parametrisation]
        for parameter in self.rate.parameters():
            parameter.clamp_(low, high)

    @torch.no_grad()
    def alive(self, site: str, threshold: float) -> Tensor:
        """log_alpha < threshold; a weight whose mean is exactly 0 has log_alpha = +inf and goes."""
        return self.q(site).log_alpha < threshold
