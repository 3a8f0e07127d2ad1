"""Dropout: a mask per input unit and example."""

import math

import pytest

from pyro_vd.priors import Flat, LogUniform, TruncatedLogUniform
from tests.guides import _properties as properties


def test_the_noise_belongs_to_input_units():
    properties.assert_input_noise("bernoulli")


def test_p_is_the_drop_probability():
    properties.assert_variance_of_dropout("bernoulli")
    properties.assert_p_by_site_and_p_of_0("bernoulli")
    properties.assert_constant_kl("bernoulli", 0)


def test_an_advice_is_one_that_can_be_followed():
    properties.assert_prior_refused("bernoulli", LogUniform(), "ScaledBernoulli goes with Flat")
    properties.assert_prior_refused("bernoulli", TruncatedLogUniform(), "ScaledBernoulli goes with Flat")
    model, guide = properties.made_dense("bernoulli", Flat())
    assert all(
        value == 0 for value in properties.AnalyticELBO().terms(model, guide, *properties.pruning_data()).kl.values()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 1.0}, r"p = 1.0 at 'conv.weight'.*\[0, 1\)"),
        ({"p": 1 - 1e-9}, r"p = 0.999999999 at 'conv.weight'.*\[0, 1\)"),
        ({"p": math.nan}, "p = nan"),
        ({"p": {"fc.weight": 0.5}}, "p names fc.weight; the sites are conv.weight, fc.weight"),
        ({"channels": {"fc.weight": 4.0}}, "4.0 does not divide"),
        ({"channels": {"fc.weight": 5}}, "5 does not divide its 16 inputs"),
        ({"channels": {"fc.weight": 0}}, "0 does not divide"),
    ],
)
def test_bad_options_are_refused(options, message):
    properties.assert_refused("bernoulli", message, **options)


def test_a_checkpoint_of_another_p_is_refused(tmp_path):
    properties.assert_a_checkpoint_of_other_options_is_refused("bernoulli", {"p": 0.1}, {"p": 0.9}, tmp_path)
