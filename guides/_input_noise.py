"""One noise variable per input unit and example (type A): the base of dropout and Gaussian dropout."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.errors import UserError
from pyro_vd.guides._gaussian import BOUNDS
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.model.weight_guide import WeightGuide, refuse_kingma_above_1
from pyro_vd.posteriors import InputNoise, MultiplicativeNoise, WeightNormal

__all__ = ["LOG_ALPHA_INIT", "InputNoiseGuide", "LearnedInputNoiseGuide", "UnitShare", "check_share"]

UnitShare = Literal["unit", "layer"]

LOG_ALPHA_INIT = -3.0  # alpha = 0.05, a mild dropout: Adam moves log_alpha by the learning rate a step and no faster


class InputNoiseGuide(WeightGuide):
    """w = theta times the noise of its input. Subclasses give the noise.

    Args:
        model: the lifted model, whose sites must all be weights of linear or ungrouped convolution layers.
        channels: site -> number of noise variables, if it is not the number of inputs. For a layer after a flattening,
            give the number of channels: each then has one noise variable for all its positions, as noise before the
            flattening has.

    Attributes:
        dims: site -> the dimension of the weight that counts inputs.
        units: site -> number of noise variables.

    Raises:
        UserError: for a site without input units, or channels that do not divide them.
    """

    def __init__(self, model: LiftedModel, *, channels: Mapping[str, int] | None = None):
        super().__init__(model)
        self.dims = {site: model.input_dim(site) for site in self.sites}
        inputs = {site: model.initial[site].shape[dim] for site, dim in self.dims.items()}
        self.units = _noise_variables(inputs, channels or {})
        self.channels = {site: number for site, number in self.units.items() if number != inputs[site]} or None

    @abstractmethod
    def noise(self, site: str) -> Distribution:
        """Distribution of the site's noise variables, batch shape (units,)."""

    def q(self, site: str) -> MultiplicativeNoise:
        return InputNoise(self.theta[site], self.noise(site), self.dims[site])

    def per_unit(self, value: float, share: UnitShare = "unit") -> SiteParameters:
        """Parameters that start at ``value``, by site: one per noise variable, or one for all of a site."""
        number = self.units if share == "unit" else dict.fromkeys(self.sites, 1)
        return SiteParameters({site: self.theta[site].detach().new_full((number[site],), value) for site in self.sites})

    @torch.no_grad()
    def scale_theta_to_network(self) -> None:
        """Divides theta by the noise's mean, so that the posterior's mean is the network's weight."""
        for site in self.sites:
            q = self.q(site)
            self.theta[site].div_(q.on_weights(q.noise.mean))

    def gaussian(self, site: str, log_alpha: float | Tensor) -> WeightNormal:
        """N(1, alpha) for every noise variable of the site."""
        ones = self.theta[site].new_ones(self.units[site])
        # Filled in place: a number that is copied to a GPU cannot be captured in a CUDA graph.
        noise_param = log_alpha if isinstance(log_alpha, Tensor) else ones.new_full((), log_alpha)
        return WeightNormal(ones, log_alpha=noise_param)


class LearnedInputNoiseGuide(InputNoiseGuide):
    r"""Noise :math:`\xi \sim \mathcal N(1, \alpha)` with learned alpha.

    Args:
        model: the lifted model.
        share: one alpha per ``"unit"`` (input unit or channel) or one per ``"layer"``. The noise itself is never
            shared between units, and the KL counts noise variables.
        init: start of log_alpha.
        channels: as in :class:`InputNoiseGuide`.

    Raises:
        UserError: for another share, a start outside the bounds, Kingma's cubic as the prior's KL if alpha may go
            above 1, and as :class:`InputNoiseGuide`.
    """

    log_alpha_min, log_alpha_max = BOUNDS["log_alpha"]

    def __init__(
        self,
        model: LiftedModel,
        *,
        share: UnitShare = "unit",
        init: float = LOG_ALPHA_INIT,
        channels: Mapping[str, int] | None = None,
    ):
        super().__init__(model, channels=channels)
        check_share(share)
        refuse_kingma_above_1(model, self.log_alpha_max)
        low, high = self.log_alpha_min, self.log_alpha_max
        if not low <= init <= high:
            raise UserError(f"init={init} is outside [{low}, {high}], the bounds of log_alpha")
        self.share = share
        self.init = init
        self.log_alpha = self.per_unit(init, share)

    def noise(self, site: str) -> WeightNormal:
        return self.gaussian(site, self.log_alpha[site])

    def bounds(self) -> dict[str, tuple[float, float]]:
        return self.site_bounds("log_alpha", self.log_alpha_min, self.log_alpha_max)


def check_share(share: str) -> None:
    """Raises UserError unless ``share`` is "unit" or "layer"."""
    if share not in get_args(UnitShare):
        raise UserError(f"share={share!r} is not one of unit, layer: input noise has one variable per unit")


def _noise_variables(inputs: Mapping[str, int], channels: Mapping[str, int]) -> dict[str, int]:
    """Site -> number of noise variables: one per input unit or channel, or the number in ``channels``."""
    unknown = sorted(channels.keys() - inputs.keys())
    if unknown:
        raise UserError(f"channels names {', '.join(unknown)}; the sites are {', '.join(inputs)}")
    for site, number in channels.items():
        if not isinstance(number, int) or number < 1 or inputs[site] % number:
            raise UserError(f"channels[{site!r}] = {number} does not divide its {inputs[site]} inputs")
    return {**inputs, **channels}
