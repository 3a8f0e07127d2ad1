"""Hierarchical variational dropout: independent noise, gamma optimized out."""

import math

import pytest
import torch

from tests.guides import _properties as properties


def test_the_kl_counts_weights():
    properties.assert_kl_counts_weights("hierarchical", parametrization="log_alpha")


@pytest.mark.parametrize("estimator", ["local", "weights"])
def test_the_parametrizations_give_one_objective(estimator):
    properties.assert_parametrizations_are_related_by_the_jacobian("hierarchical", estimator)


@pytest.mark.parametrize("threshold", [None, math.inf])
def test_a_mean_that_starts_at_0_can_leave_it(threshold):
    properties.assert_a_mean_that_starts_at_0_can_leave_it("hierarchical", threshold)


def test_masks_in_both_precisions_differ_in_ties_alone():
    (model, guide), _ = properties.twins("hierarchical")
    _, single = properties.made("hierarchical")
    for threshold in (-4.0, -1.0, 0.5):
        for site in model.priors:
            with torch.no_grad():
                single.theta[site].copy_(guide.theta[site])
                single.noise_param[site].copy_(guide.noise_param[site])
            tie = (guide.q(site).log_alpha - threshold).abs() < 1e-5
            agree = single.keep_mask(site, threshold) == guide.keep_mask(site, threshold)
            assert (agree | tie).all()
            assert 0.1 < guide.keep_mask(site, threshold).double().mean() < 0.95
