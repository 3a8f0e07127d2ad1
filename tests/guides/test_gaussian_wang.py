"""Gaussian dropout W: fixed independent noise on every weight."""

import pytest

from pyro_vd import LogUniform
from tests.guides import _properties as properties


def test_alpha_is_the_variance_of_dropout():
    properties.assert_variance_of_dropout("gaussian_wang")
    properties.assert_p_by_site_and_p_of_0("gaussian_wang")
    properties.assert_constant_kl("gaussian_wang", 4 * 2 * 9 + 3 * 16)


def test_alpha_above_the_threshold_is_pruned_in_training_and_after_it():
    properties.assert_fixed_alpha_above_the_threshold_is_pruned("gaussian_wang")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"p": -0.1}, r"p = -0.1"), ({"p": 0.6, "prior": LogUniform("kingma")}, "'kingma'")],
)
def test_bad_options_are_refused(options, message):
    properties.assert_refused("gaussian_wang", message, **options)


def test_a_checkpoint_of_another_p_is_refused(tmp_path):
    properties.assert_a_checkpoint_of_other_options_is_refused("gaussian_wang", {"p": 0.1}, {"p": 0.9}, tmp_path)
