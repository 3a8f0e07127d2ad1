"""Gaussian weights times a scale per input unit: what the group schemes share."""

from __future__ import annotations

import torch

from pyro_vd.guides._gaussian import BOUNDS
from pyro_vd.guides._input_noise import InputNoiseGuide
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.posteriors import GroupScale, WeightNormal

__all__ = ["START", "GroupScaleGuide"]

START = -9.0  # log variance of scales and weights at the start, as in the authors' tutorial code


class GroupScaleGuide(InputNoiseGuide):
    """w = z times w~, both random. Subclasses say what the scales z are.

    A group is what leaves one input unit or channel. The paper's groups of a convolution are its output channels; here
    they are its input channels, the output channels of the layer before, so that there is one kind of group.

    Args:
        model, channels: as in :class:`pyro_vd.guides._input_noise.InputNoiseGuide`.
    """

    def __init__(self, model: LiftedModel, channels: dict[str, int] | None = None):
        super().__init__(model, channels)
        self.log_sigma2 = SiteParameters(
            {site: torch.full_like(theta, START) for site, theta in self.theta.named_parameters()}
        )

    def q(self, site: str) -> GroupScale:
        weight = WeightNormal(self.theta[site], log_sigma2=self.log_sigma2[site])
        return GroupScale(weight, self.noise(site), self.dims[site])

    def bounds(self) -> dict[str, tuple[float, float]]:
        names = (name for name, _ in self.named_parameters())
        return {name: BOUNDS["log_sigma2"] for name in names if "log_sigma2" in name.split(".")[0]}
