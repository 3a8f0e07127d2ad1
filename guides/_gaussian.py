"""Independent Gaussian noise on every weight (type B) in both parametrizations, alpha its own or shared."""

from __future__ import annotations

from typing import Literal

import torch

from pyro_vd.guides._units import input_dim
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.model.weight_guide import WeightGuide, refuse_kingma_above_1, start, within
from pyro_vd.posteriors import WeightNormal

__all__ = ["GaussianGuide"]

# Adam moves a parameter by about the learning rate per step whatever its gradient, so log parameters drift unless
# they are put back. A clamp in the forward pass would have zero gradient outside and freeze them there.
BOUNDS = {"log_sigma2": (-20.0, 4.0), "log_alpha": (-20.0, 20.0)}
START = {"log_sigma2": -10.0, "log_alpha": -8.0}
SHARES = ("weight", "unit", "layer")


class GaussianGuide(WeightGuide):
    r"""q(w) = N(theta, sigma^2), independent over weights.

    Args:
        model: the lifted model.
        parametrization: ``"log_sigma2"`` (additive, Molchanov et al. 2017, section 4.1) or ``"log_alpha"``
            (multiplicative, Kingma et al. 2015, section 3).
        init: starting value of that parameter; by default log_sigma2 = -10 or log_alpha = -8.
        share: one alpha per ``"weight"``, per input ``"unit"`` or channel, or per ``"layer"``. The noise is
            independent in every case, so the KL counts weights. Sharing needs ``parametrization="log_alpha"``: a
            shared variance is another posterior.

    Raises:
        ValueError: for another parametrization or share, a start outside its bounds, or a site without input units
            where they share.
    """

    log_alpha_max = BOUNDS["log_alpha"][1]

    def __init__(
        self,
        model: LiftedModel,
        parametrization: Literal["log_sigma2", "log_alpha"] = "log_sigma2",
        init: float | None = None,
        share: Literal["weight", "unit", "layer"] = "weight",
    ):
        super().__init__(model)
        if parametrization not in BOUNDS:
            raise ValueError(f"parametrization={parametrization!r} is not one of {', '.join(BOUNDS)}")
        if share not in SHARES:
            raise ValueError(f"share={share!r} is not one of {', '.join(SHARES)}")
        if share != "weight" and parametrization != "log_alpha":
            raise ValueError(f"share={share!r} shares alpha: it needs parametrization='log_alpha'")
        refuse_kingma_above_1(model, self.log_alpha_max)
        self.parametrization = parametrization
        self.options = {"parametrization": parametrization, "share": share}
        init = START[parametrization] if init is None else init
        low, high = self.rate_bounds
        if not low <= init <= high:
            raise ValueError(f"init={init} is outside [{low}, {high}], the bounds of {parametrization}")
        self.init = init
        self.theta = SiteParameters(start(model))
        rates = {
            site: theta.detach().new_full(_shape(model, site, share), init)
            for site, theta in self.theta.named_parameters()
        }
        self.add_module(parametrization, SiteParameters(rates))
        if parametrization == "log_sigma2":  # log_alpha is no function of the mean in the other one
            unstarted = {
                site: torch.zeros_like(theta, dtype=torch.bool) for site, theta in self.theta.named_parameters()
            }
            self.started = SiteParameters(unstarted)

    def q(self, site: str) -> WeightNormal:
        if self.parametrization == "log_alpha":
            return WeightNormal(self.theta[site], log_alpha=self.rate[site])
        return WeightNormal(self.theta[site], log_sigma2=self.rate[site])

    @property
    def rate(self) -> SiteParameters:
        """The noise parameters by site, named in ``state_dict`` after the parametrization."""
        return self._modules[self.parametrization]  # type: ignore[return-value]

    @property
    def rate_bounds(self) -> tuple[float, float]:
        """Where the noise parameters are kept."""
        low, high = BOUNDS[self.parametrization]
        return low, min(high, self.log_alpha_max) if self.parametrization == "log_alpha" else high

    def bounds(self) -> dict[str, tuple[float, float]]:
        return within(self.parametrization, self.rate, *self.rate_bounds)


def _shape(model: LiftedModel, site: str, share: str) -> torch.Size:
    """Shape of the noise parameter: the weight's, with 1 where it is shared."""
    shape = model.initial[site].shape
    if share == "weight":
        return shape
    ones = [1] * len(shape)
    if share == "unit":
        ones[input_dim(model, site)] = shape[input_dim(model, site)]
    return torch.Size(ones)
