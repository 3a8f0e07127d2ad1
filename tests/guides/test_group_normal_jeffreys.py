"""Group normal-Jeffreys: a Gaussian scale per input unit."""

import pyro.distributions as dist
import pytest

from pyro_vd import EmpiricalBayes, LogUniform
from pyro_vd.priors import GroupHorseshoe
from tests.guides import _properties as properties


def test_irrelevant_inputs_are_pruned():
    properties.assert_irrelevant_inputs_are_pruned("group_normal_jeffreys")


def test_projection():
    properties.assert_projection("group_normal_jeffreys", ["log_sigma2", "z_log_sigma2"], -20, 4)


def test_a_posterior_survives_saving(tmp_path):
    properties.assert_survives_saving("group_normal_jeffreys", tmp_path)


def test_channels_that_do_not_divide_are_refused():
    properties.assert_refused("group_normal_jeffreys", "does not divide its 16 inputs", channels={"fc.weight": 3})


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (LogUniform(), "do not go with LogUniform"),
        (EmpiricalBayes(), "do not go with EmpiricalBayes"),
        (dist.Normal(0.0, 1.0), "do not go with Normal"),
        (GroupHorseshoe(), "WeightNormal scales do not go with GroupHorseshoe: .*GroupHorseshoe for log-normal scales"),
    ],
)
def test_other_priors_are_refused(prior, message):
    properties.assert_prior_refused("group_normal_jeffreys", prior, message)
