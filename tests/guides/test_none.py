"""The point estimate, with and without masks."""

import pytest
import torch

from pyro_vd.errors import UserError
from tests.guides import _properties as properties


def test_it_keeps_all_weights_without_masks():
    _, guide = properties.made("none")
    assert all(guide.keep_mask(site, -100.0).all() for site in guide.sites)
    assert repr(guide) == "none.Guide()"


def test_masked_weights_are_0_and_masks_can_be_replaced():
    model, _ = properties.made("none")
    masks = {site: torch.rand_like(weight) > 0.5 for site, weight in model.initial.items()}
    model, guide = properties.made("none", masks=masks)
    assert repr(guide) == "none.Guide(masks=...)"
    assert all(torch.equal(guide.q(site).mean != 0, mask) for site, mask in masks.items())
    guide.set_masks({site: ~mask for site, mask in masks.items()})
    assert all(torch.equal(guide.keep_mask(site, 0.0), ~mask) for site, mask in masks.items())


def test_masks_of_another_model_are_refused():
    _, guide = properties.made("none")
    with pytest.raises(UserError, match=r"make it with masks="):
        guide.set_masks({})
    properties.assert_refused("none", "no mask for 'conv.weight'; no mask for 'fc.weight'", masks={})
