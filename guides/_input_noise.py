"""One noise variable per input unit and example (type A): what dropout and Gaussian dropout share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.guides._gaussian import BOUNDS
from pyro_vd.guides._units import input_dim, noise_variables
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.model.weight_guide import WeightGuide, refuse_kingma_above_1, start, within
from pyro_vd.posteriors import InputNoise, MultiplicativeNoise, WeightNormal

__all__ = ["InputNoiseGuide", "LearnedInputNoiseGuide"]

START = -3.0  # alpha = 0.05: a mild dropout, for Adam's log_alpha goes a learning rate a step and no faster


class InputNoiseGuide(WeightGuide):
    """w = theta times the noise of its input. Subclasses say what the noise is.

    Args:
        model: the lifted model, all of whose sites are weights of linear or ungrouped convolution layers.
        channels: site -> number of noise variables where it is not the number of inputs: at a layer after a flattening,
            the number of channels, each with one noise for all its positions (noise before flattening).

    Raises:
        ValueError: for a site without input units, or channels that do not divide them.
    """

    def __init__(self, model: LiftedModel, channels: dict[str, int] | None = None):
        super().__init__(model)
        self.theta = SiteParameters(start(model))
        self.dims = {site: input_dim(model, site) for site in self.sites}
        self.units = noise_variables(model, channels or {})
        self.options = {"units": self.units}

    @abstractmethod
    def noise(self, site: str) -> Distribution:
        """Distribution of the site's noise variables, batch shape (units,)."""

    def q(self, site: str) -> MultiplicativeNoise:
        return InputNoise(self.theta[site], self.noise(site), self.dims[site])

    def per_unit(self, value: float, share: Literal["unit", "layer"] = "unit") -> SiteParameters:
        """A parameter that starts at ``value``, by site: one per noise variable, or one for all of a site."""
        number = self.units if share == "unit" else dict.fromkeys(self.sites, 1)
        return SiteParameters({site: self.theta[site].detach().new_full((number[site],), value) for site in self.sites})

    @torch.no_grad()
    def start_at_the_network(self) -> None:
        """Scales theta so that the posterior's mean is the network it is made from, where the noise's mean is not 1."""
        for site in self.sites:
            q = self.q(site)
            self.theta[site].div_(q.on_weights(q.noise.mean))

    def gaussian(self, site: str, log_alpha: float | Tensor) -> WeightNormal:
        """N(1, alpha) for every noise variable of the site."""
        ones = self.theta[site].new_ones(self.units[site])
        # Filled in place: a number that is copied to a GPU cannot be captured in a CUDA graph.
        rate = log_alpha if isinstance(log_alpha, Tensor) else ones.new_full((), log_alpha)
        return WeightNormal(ones, log_alpha=rate)


class LearnedInputNoiseGuide(InputNoiseGuide):
    r"""Noise :math:`\xi \sim \mathcal N(1, \alpha)` with learned alpha.

    Args:
        model, channels: as in :class:`InputNoiseGuide`.
        share: one alpha per ``"unit"`` (input unit or channel) or one per ``"layer"``. The noise itself is never
            shared between units, and the KL counts noise variables.
        init: start of log_alpha.

    Raises:
        ValueError: for another share, a start outside the bounds, and what InputNoiseGuide refuses.
    """

    log_alpha_min, log_alpha_max = BOUNDS["log_alpha"]

    def __init__(
        self,
        model: LiftedModel,
        share: Literal["unit", "layer"] = "unit",
        init: float = START,
        channels: dict[str, int] | None = None,
    ):
        super().__init__(model, channels)
        if share not in ("unit", "layer"):
            raise ValueError(f"share={share!r} is not one of unit, layer: input noise has one variable per unit")
        refuse_kingma_above_1(model, self.log_alpha_max)
        low, high = self.log_alpha_min, self.log_alpha_max
        if not low <= init <= high:
            raise ValueError(f"init={init} is outside [{low}, {high}], the bounds of log_alpha")
        self.options["share"] = share
        self.init = init
        self.log_alpha = self.per_unit(init, share)

    def noise(self, site: str) -> WeightNormal:
        return self.gaussian(site, self.log_alpha[site])

    def bounds(self) -> dict[str, tuple[float, float]]:
        return within("log_alpha", self.log_alpha, self.log_alpha_min, self.log_alpha_max)
