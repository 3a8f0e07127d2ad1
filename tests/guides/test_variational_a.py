"""Variational dropout A: learned noise per input unit, alpha at most 1."""

import pyro.distributions as dist
import pytest
import torch

from pyro_vd import EmpiricalBayes, LogUniform, MonteCarloKL
from tests.guides import _properties as properties


def test_the_noise_belongs_to_input_units():
    properties.assert_input_noise("variational_a")


def test_the_kl_counts_noise_variables():
    properties.assert_kl_counts_noise_variables("variational_a")


def test_alpha_is_at_most_1():
    properties.assert_alpha_at_most_1("variational_a")
    properties.assert_stock_svi_stays_inside("variational_a", LogUniform("kingma"))


def test_it_takes_either_prior_on_its_noise_and_none_over_weights():
    model, guide = properties.made("variational_a", EmpiricalBayes(), init=-1.0)
    found = properties.kl(model, guide)["conv.weight"].detach()
    torch.testing.assert_close(found, 2 * properties.one(-1.0, EmpiricalBayes()))
    for prior in (dist.Normal(0.0, 1.0), MonteCarloKL(dist.StudentT(3.0))):
        properties.assert_prior_refused("variational_a", prior, "is infinite; choose a prior on the noise")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": {"fc2.weight": 4}}, "channels names fc2.weight; the sites are conv.weight"),
        ({"share": "weight"}, "share='weight' is not one of unit, layer"),
        ({"init": 0.5}, "0.5"),
    ],
)
def test_bad_options_are_refused(options, message):
    properties.assert_refused("variational_a", message, **options)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"share": "layer"}, {"share": "layer", "channels": {"fc.weight": 4}}),
        ({}, {"prior": LogUniform("kingma")}),
    ],
)
def test_a_checkpoint_of_other_options_is_refused(first, second, tmp_path):
    properties.assert_a_checkpoint_of_other_options_is_refused("variational_a", first, second, tmp_path)
