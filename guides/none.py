"""No noise: a point estimate of every weight, the baseline of every table and the scheme for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.model.lift import LiftedModel
from pyro_vd.model.masks import check_masks
from pyro_vd.model.scheme_defaults import SchemeDefaults
from pyro_vd.model.site_parameters import SiteParameters
from pyro_vd.model.weight_guide import WeightGuide
from pyro_vd.priors import Flat

__all__ = ["Guide", "defaults", "prior"]

prior = Flat
defaults = SchemeDefaults()


class Guide(WeightGuide):
    """q(w) = Delta(theta), or Delta(theta * mask): maximum likelihood under the flat prior, MAP under a proper one.

    Args:
        model: the lifted model.
        masks: site -> bools of the weight's shape. Weights are 0 where they are False and stay 0 in training, for
            fine-tuning after pruning.

    Raises:
        UserError: for masks of other sites or shapes than the model's.
    """

    defaults = defaults

    def __init__(self, model: LiftedModel, *, masks: Mapping[str, Tensor] | None = None):
        super().__init__(model)
        self.masks: SiteParameters | None = None
        if masks is not None:
            # Parameters without a gradient, not buffers: a step that is not finite then has nothing to restore.
            self.masks = SiteParameters(
                {site: torch.ones_like(theta) for site, theta in self.theta.named_parameters()}
            ).requires_grad_(False)
            self.set_masks(masks)

    @torch.no_grad()
    def set_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Replaces the masks, between the epochs of a run too: gradual pruning.

        Raises:
            UserError: for a guide made without masks, and for masks of other sites or shapes than the model's.
        """
        if self.masks is None:
            raise UserError("none.Guide without masks has none to replace: make it with masks=, all True at first")
        check_masks(masks, {site: self.theta[site] for site in self.sites}, "none.Guide")
        for site, mask in masks.items():
            self.masks[site].copy_(mask)

    def q(self, site: str) -> dist.Delta:
        theta = self.theta[site]
        return dist.Delta(theta if self.masks is None else theta * self.masks[site])

    @torch.no_grad()
    def keep_mask(self, site: str, threshold: float) -> Tensor:
        return super().keep_mask(site, threshold) if self.masks is None else self.masks[site] > 0
