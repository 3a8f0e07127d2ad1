"""L0 regularization: hard-concrete gates on the input units."""

import math

import pyro.distributions as dist

from pyro_vd import EmpiricalBayes
from pyro_vd.priors import L0
from tests.guides import _properties as properties


def test_irrelevant_inputs_are_pruned():
    properties.assert_irrelevant_inputs_are_pruned("l0", L0(2.0))


def test_projection():
    properties.assert_projection("l0", ["location"], -math.log(100), math.log(100))


def test_a_posterior_survives_saving(tmp_path):
    properties.assert_survives_saving("l0", tmp_path)


def test_a_start_out_of_range_is_refused():
    message = r"init=0.9 is the gates' drop probability: it must be in \(0, 0.9\)"
    properties.assert_refused("l0", message, init=0.9)


def test_other_priors_are_refused():
    properties.assert_prior_refused("l0", EmpiricalBayes(), "HardConcrete with L0")
    properties.assert_prior_refused("l0", dist.Normal(0.0, 1.0), "infinite")
