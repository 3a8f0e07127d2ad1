"""Gaussian dropout S: fixed Gaussian noise per input unit and example."""

import math

import pytest

from pyro_vd.priors import Flat
from tests.guides import _properties as properties


def test_the_noise_belongs_to_input_units():
    properties.assert_input_noise("gaussian_srivastava")


def test_alpha_is_the_variance_of_dropout():
    properties.assert_variance_of_dropout("gaussian_srivastava")
    properties.assert_p_by_site_and_p_of_0("gaussian_srivastava")
    properties.assert_constant_kl("gaussian_srivastava", 2 + 16)


def test_alpha_above_the_threshold_is_pruned_in_training_and_after_it():
    properties.assert_fixed_alpha_above_the_threshold_is_pruned("gaussian_srivastava")


def test_an_advice_is_one_that_can_be_followed():
    properties.assert_prior_refused("gaussian_srivastava", Flat(), r"N\(1, alpha\) with LogUniform or EmpiricalBayes")


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.0])
def test_p_out_of_range_is_refused(p):
    properties.assert_refused("gaussian_srivastava", f"p = {p}", p=p)
