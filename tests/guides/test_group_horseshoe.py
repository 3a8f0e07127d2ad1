"""Group horseshoe: a log-normal scale per input unit, pruned by its mode."""

import torch

from pyro_vd.priors import GroupHorseshoe, GroupNormalJeffreys
from tests.guides import _properties as properties


def test_irrelevant_inputs_are_pruned():
    properties.assert_irrelevant_inputs_are_pruned("group_horseshoe")


def test_it_prunes_by_the_mode_of_the_scale():
    _, guide = properties.made_dense("group_horseshoe")
    with torch.no_grad():
        guide.z_gamma_mu["0.weight"].copy_(torch.linspace(-12, 2, 8))
    log_mode = guide.noise("0.weight").log_mode
    threshold = -log_mode[3].item()  # at the threshold it goes
    mask = guide.keep_mask("0.weight", threshold)
    assert mask.shape == (12, 8)
    assert mask[0].tolist() == [False] * 4 + [True] * 4
    assert (mask == mask[:1]).all()


def test_scales_start_at_1_whatever_tau0():
    for tau0 in (1e-5, 1.0):
        _, guide = properties.made_dense("group_horseshoe", GroupHorseshoe(tau0))
        torch.testing.assert_close(guide.noise("0.weight").mu, torch.zeros(8), atol=1e-5, rtol=0)


def test_projection():
    names = ["log_sigma2", "z_gamma_log_sigma2", "s_inverse_log_sigma2"]
    properties.assert_projection("group_horseshoe", names, -20, 4)


def test_a_posterior_survives_saving(tmp_path):
    properties.assert_survives_saving("group_horseshoe", tmp_path)


def test_channels_of_no_site_are_refused():
    message = "the sites are conv.weight, fc.weight"
    properties.assert_refused("group_horseshoe", message, channels={"3.weight": 3})


def test_other_priors_are_refused():
    message = "LogNormalScale scales do not go with GroupNormalJeffreys: .*GroupNormalJeffreys for Gaussian scales"
    properties.assert_prior_refused("group_horseshoe", GroupNormalJeffreys(), message)
