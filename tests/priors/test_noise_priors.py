"""Priors on noise variables: the numbers that they take."""

import math

import pytest

from pyro_vd.priors import L0, GroupHorseshoe


@pytest.mark.parametrize("make", [lambda: GroupHorseshoe(0.0), lambda: GroupHorseshoe(math.inf), lambda: L0(-1.0)])
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"GroupHorseshoe\(tau0=|L0\(cost="):
        make()
