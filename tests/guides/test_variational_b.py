"""Variational dropout B: independent noise on every weight, alpha at most 1."""

import pytest

import pyro_vd
from pyro_vd import LogUniform
from tests.guides import _properties as properties


def test_the_kl_counts_weights():
    properties.assert_kl_counts_weights("variational_b")


@pytest.mark.parametrize("options", [{}, {"share": "layer"}])
def test_alpha_is_at_most_1(options):
    properties.assert_alpha_at_most_1("variational_b", **options)


def test_stock_svi_stays_inside():
    properties.assert_stock_svi_stays_inside("variational_b")


def test_a_fit_stays_inside():
    model, guide = properties.made("variational_b", LogUniform("kingma"), init=-2.0)
    pyro_vd.fit(model, guide, properties.data(), epochs=5, lr=0.5, batch_size=10, engine="eager", progress=False)
    assert properties.largest_log_alpha(guide) <= 1e-5


def test_a_start_above_1_is_refused():
    properties.assert_refused("variational_b", "0.5", init=0.5)
