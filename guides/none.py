"""No noise: a point estimate of every weight, the baseline of every table and what a pruned network is tuned with."""

from __future__ import annotations

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.model.weight_guide import WeightGuide, start
from pyro_vd.priors import Flat

__all__ = ["Guide", "prior"]

prior = Flat


class Guide(WeightGuide):
    """q(w) = Delta(theta), or Delta(theta * mask): maximum likelihood under the flat prior, MAP under a proper one.

    Args:
        masks: site -> bools. Weights are 0 where they are False, and stay so in training: fine-tuning after pruning.

    Raises:
        ValueError: for masks of other sites or shapes than the model's.
    """

    def __init__(self, model: LiftedModel, masks: Mapping[str, Tensor] | None = None):
        super().__init__(model)
        self.theta = SiteParameters(start(model))
        self.mask: SiteParameters | None = None
        if masks is not None:
            self.options = {"masked": True}
            # Parameters without a gradient, not buffers: a step then has nothing to take back where it is not finite.
            self.mask = SiteParameters(
                {site: torch.ones_like(theta) for site, theta in self.theta.named_parameters()}
            ).requires_grad_(False)
            self.keep(masks)

    @torch.no_grad()
    def keep(self, masks: Mapping[str, Tensor]) -> None:
        """Puts other masks in the place of a masked guide's, also in a run: gradual pruning.

        Raises:
            ValueError: for a guide made without masks, and for masks of other sites or shapes than the model's.
        """
        if self.mask is None:
            raise ValueError("none.Guide without masks: make it with masks=, all True to begin with")
        shapes = {site: theta.shape for site, theta in self.theta.named_parameters()}
        if {site: mask.shape for site, mask in masks.items()} != shapes:
            raise ValueError(
                f"masks of {', '.join(masks)}: the model's sites are {', '.join(shapes)}; shapes as theirs"
            )
        for site, mask in masks.items():
            self.mask[site].copy_(mask)

    def q(self, site: str) -> dist.Delta:
        theta = self.theta[site]
        return dist.Delta(theta if self.mask is None else theta * self.mask[site])

    @torch.no_grad()
    def keep_mask(self, site: str, threshold: float) -> Tensor:
        return super().keep_mask(site, threshold) if self.mask is None else self.mask[site] > 0
