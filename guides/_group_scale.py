"""Gaussian weights times a scale per input unit: the base of the group schemes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pyro_vd.guides._gaussian import BOUNDS
from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.posteriors import GroupScale, WeightNormal

__all__ = ["LOG_SIGMA2_INIT", "GroupScaleGuide"]

LOG_SIGMA2_INIT = -9.0  # of scales and weights, as in the authors' tutorial code


class GroupScaleGuide(InputNoiseGuide):
    """w = z times w~, both random. Subclasses give the scales z.

    A group holds the weights that leave one input unit or channel. The paper groups a convolution by its output
    channels. Here the groups are its input channels, which are the output channels of the layer before, so that there
    is one kind of group.

    Args:
        model: the lifted model.
        channels: as in :class:`pyro_vd.guides._input_noise.InputNoiseGuide`.
    """

    def __init__(self, model: LiftedModel, *, channels: Mapping[str, int] | None = None):
        super().__init__(model, channels=channels)
        self.log_sigma2 = SiteParameters(
            {site: torch.full_like(theta, LOG_SIGMA2_INIT) for site, theta in self.theta.named_parameters()}
        )

    def q(self, site: str) -> GroupScale:
        weight = WeightNormal(self.theta[site], log_sigma2=self.log_sigma2[site])
        return GroupScale(weight, self.noise(site), self.dims[site])

    def bounds(self) -> dict[str, tuple[float, float]]:
        names = (name for name, _ in self.named_parameters())
        return {name: BOUNDS["log_sigma2"] for name in names if "log_sigma2" in name.split(".")[0]}
