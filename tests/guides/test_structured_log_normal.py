"""Structured Bayesian pruning: truncated log-normal noise on the input units."""

from pyro_vd import LogUniform
from pyro_vd.priors import L0
from tests.guides import _properties as properties


def test_irrelevant_inputs_are_pruned():
    properties.assert_irrelevant_inputs_are_pruned("structured_log_normal")


def test_projection():
    properties.assert_projection("structured_log_normal", ["mu"], -20, 0)
    properties.assert_projection("structured_log_normal", ["log_sigma"], -20, 5)


def test_other_priors_are_refused():
    message = "TruncatedLogNormal with TruncatedLogUniform"
    properties.assert_prior_refused("structured_log_normal", LogUniform(), message)
    message = "noise TruncatedLogNormal on the inputs does not go with this L0: .*HardConcrete with L0"
    properties.assert_prior_refused("structured_log_normal", L0(), message)
