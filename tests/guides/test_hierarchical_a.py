"""Hierarchical variational dropout A: learned noise per input unit, gamma optimized out."""

import torch

import pyro_vd
from pyro_vd import AnalyticELBO, EmpiricalBayes, LogUniform
from tests.guides import _properties as properties


def test_the_noise_belongs_to_input_units():
    properties.assert_input_noise("hierarchical_a")


def test_the_kl_counts_noise_variables():
    properties.assert_kl_counts_noise_variables("hierarchical_a")


def test_units_go_as_a_whole():
    model, guide = properties.made("hierarchical_a")
    with torch.no_grad():
        guide.log_alpha["conv.weight"].copy_(torch.tensor([-4.0, 4.0]))
    mask = guide.keep_mask("conv.weight", 4.0)  # at the threshold it goes
    assert mask[:, 0].all()
    assert not mask[:, 1].any()
    posterior = pyro_vd.Posterior(model, guide)
    assert posterior.log_alpha()["conv.weight"].shape == (4, 2, 3, 3)
    assert (posterior.mean(posterior.masks(3.0)).conv.weight[:, 1] == 0).all()


def test_it_takes_the_log_uniform_prior_and_a_gamma_per_layer_too():
    model, guide = properties.made("hierarchical_a", LogUniform("exact"), init=-1.0)
    found = properties.kl(model, guide)["conv.weight"].detach()
    torch.testing.assert_close(found, 2 * properties.one(-1.0, LogUniform("exact")))
    model, guide = properties.made_dense("hierarchical_a", EmpiricalBayes("layer"))
    assert AnalyticELBO().terms(model, guide, *properties.pruning_data()).weighted_kl.isfinite()
    properties.assert_prior_refused("hierarchical_a", EmpiricalBayes("unit"), "two dimensions or more")


def test_a_start_out_of_bounds_is_refused():
    properties.assert_refused("hierarchical_a", "20.5", init=20.5)
