"""Independent Gaussian noise on every weight (type B), in both parametrizations."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.model.weight_guide import WeightGuide, refuse_kingma_above_1
from pyro_vd.posteriors import WeightNormal

__all__ = ["BOUNDS", "GaussianGuide", "Parametrization", "Share"]

Parametrization = Literal["log_sigma2", "log_alpha"]
Share = Literal["weight", "unit", "layer"]

# Adam moves a parameter by about the learning rate per step whatever its gradient, so log parameters drift unless
# they are projected. A clamp in the forward pass would have zero gradient outside its range and freeze them there.
BOUNDS = {"log_sigma2": (-20.0, 4.0), "log_alpha": (-20.0, 20.0)}
DEFAULT_INIT = {"log_sigma2": -10.0, "log_alpha": -8.0}


class GaussianGuide(WeightGuide):
    r"""q(w) = N(theta, sigma^2), independent over weights.

    Args:
        model: the lifted model.
        parametrization: ``"log_sigma2"`` (additive, Molchanov et al. 2017, section 4.1) or ``"log_alpha"``
            (multiplicative, Kingma et al. 2015, section 3).
        share: one alpha per ``"weight"``, per input ``"unit"`` or channel, or per ``"layer"``. The noise is
            independent in every case, so the KL counts weights. Sharing needs ``parametrization="log_alpha"``: a
            shared variance is another posterior.
        init: start of that parameter, by default log_sigma2 = -10 or log_alpha = -8.

    Attributes:
        noise_param: site -> the learned parameter, of the weight's shape with 1 in the dimensions that share it. Its
            name in ``state_dict`` is the parametrization's.

    Raises:
        UserError: for another parametrization or share, a start outside its bounds, a site without input units if
            units share alpha, or Kingma's cubic as the prior's KL if alpha may go above 1.
    """

    log_alpha_max = BOUNDS["log_alpha"][1]

    def __init__(
        self,
        model: LiftedModel,
        *,
        parametrization: Parametrization = "log_sigma2",
        share: Share = "weight",
        init: float | None = None,
    ):
        super().__init__(model)
        if parametrization not in get_args(Parametrization):
            raise UserError(f"parametrization={parametrization!r} is not one of {', '.join(get_args(Parametrization))}")
        if share not in get_args(Share):
            raise UserError(f"share={share!r} is not one of {', '.join(get_args(Share))}")
        if share != "weight" and parametrization != "log_alpha":
            raise UserError(f"share={share!r} shares alpha: it needs parametrization='log_alpha'")
        refuse_kingma_above_1(model, self.log_alpha_max)
        self.parametrization = parametrization
        self.share = share
        init = DEFAULT_INIT[parametrization] if init is None else init
        low, high = self.noise_bounds
        if not low <= init <= high:
            raise UserError(f"init={init} is outside [{low}, {high}], the bounds of {parametrization}")
        self.init = init
        starts = {site: theta.detach() for site, theta in self.theta.named_parameters()}
        noise_param = {site: _fill(theta, _shape(model, site, share), init) for site, theta in starts.items()}
        self.add_module(parametrization, SiteParameters(noise_param))
        if parametrization == "log_sigma2":  # with the other one, log_alpha does not depend on the mean
            self.started = SiteParameters(
                {site: torch.zeros_like(theta, dtype=torch.bool) for site, theta in starts.items()}
            )

    def q(self, site: str) -> WeightNormal:
        if self.parametrization == "log_alpha":
            return WeightNormal(self.theta[site], log_alpha=self.noise_param[site])
        return WeightNormal(self.theta[site], log_sigma2=self.noise_param[site])

    @property
    def noise_param(self) -> SiteParameters:
        """The noise parameters by site."""
        parameters = self._modules[self.parametrization]
        assert isinstance(parameters, SiteParameters)
        return parameters

    @property
    def noise_bounds(self) -> tuple[float, float]:
        """The interval that the noise parameters are kept in."""
        low, high = BOUNDS[self.parametrization]
        return low, min(high, self.log_alpha_max) if self.parametrization == "log_alpha" else high

    def bounds(self) -> dict[str, tuple[float, float]]:
        return self.site_bounds(self.parametrization, *self.noise_bounds)


def _fill(theta: Tensor, shape: torch.Size, value: float) -> Tensor:
    """A tensor of this shape that is full of the value; one of the mean's shape also has its memory format."""
    return torch.full_like(theta, value) if shape == theta.shape else theta.new_full(shape, value)


def _shape(model: LiftedModel, site: str, share: Share) -> torch.Size:
    """Shape of the noise parameter: the weight's, with 1 in the dimensions that share it."""
    shape = model.initial[site].shape
    if share == "weight":
        return shape
    ones = [1] * len(shape)
    if share == "unit":
        dim = model.input_dim(site)
        ones[dim] = shape[dim]
    return torch.Size(ones)
