"""Sparse variational dropout: independent noise, unbounded alpha, log-uniform prior."""

import math

import pyro.distributions as dist
import pytest

import pyro_vd
from pyro_vd import AnalyticELBO, EmpiricalBayes, checkpoint
from pyro_vd.errors import CheckpointError
from pyro_vd.priors import L0, GroupNormalJeffreys
from tests.guides import _properties as properties


def test_the_kl_counts_weights():
    properties.assert_kl_counts_weights("sparse", parametrization="log_alpha")


@pytest.mark.parametrize("estimator", ["local", "weights"])
def test_the_parametrizations_give_one_objective(estimator):
    properties.assert_parametrizations_are_related_by_the_jacobian("sparse", estimator)


@pytest.mark.parametrize("threshold", [None, math.inf])
def test_a_mean_that_starts_at_0_can_leave_it(threshold):
    properties.assert_a_mean_that_starts_at_0_can_leave_it("sparse", threshold)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": "channel"}, "share='channel' is not one of weight, unit, layer"),
        ({"share": "unit"}, "needs parametrization='log_alpha'"),
    ],
)
def test_bad_options_are_refused(options, message):
    properties.assert_refused("sparse", message, **options)


@pytest.mark.parametrize("prior", [GroupNormalJeffreys(), L0(), dist.StudentT(3.0)])
def test_priors_without_a_kl_are_refused(prior):
    properties.assert_prior_refused("sparse", prior, "no registered KL")


def test_a_gamma_per_unit_is_a_prior_too():
    model, guide = properties.made_dense("sparse", EmpiricalBayes("unit"))
    assert AnalyticELBO().terms(model, guide, *properties.pruning_data()).weighted_kl.isfinite()


# Mutant: a KeyError at a checkpoint from before the pair stood beside the settings.
def test_a_checkpoint_that_names_its_pair_elsewhere_is_refused_by_name(tmp_path):
    fitting = {"epochs": 1, "batch_size": 10, "engine": "eager", "progress": False, "checkpoint": tmp_path / "run"}
    pyro_vd.fit(*properties.made("sparse"), properties.data(), **fitting)
    tensors, meta = checkpoint.load(tmp_path / "run")
    meta["settings"]["pair"] = meta.pop("pair").replace("molchanov", "")
    checkpoint.save(tmp_path / "run", tensors, meta)
    with pytest.raises(CheckpointError, match="its metadata has no 'pair'"):
        pyro_vd.fit(*properties.made("sparse"), properties.data(), **fitting)
