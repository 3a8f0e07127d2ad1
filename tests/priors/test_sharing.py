"""Which dimensions of a weight share a variable of its prior."""

import pytest

from pyro_vd.errors import UserError
from pyro_vd.priors.sharing import check_share, shared_dims


@pytest.mark.parametrize(("share", "dim", "ndim", "expected"), [
    ("weight", 1, 4, []), ("layer", 1, 4, [0, 1, 2, 3]), ("unit", 1, 4, [0, 2, 3]), ("unit", 0, 2, [1]),
    ("unit", -1, 2, [0]), ("layer", 1, 1, [0]), ("weight", 1, 0, []), ("layer", 1, 0, []),
])  # fmt: skip
def test_the_dimensions_that_share(share, dim, ndim, expected):
    assert shared_dims("Prior", share, dim, ndim) == expected


def test_units_need_two_dimensions():
    with pytest.raises(NotImplementedError, match=r"Prior\('unit'\) needs weights with inputs and outputs"):
        shared_dims("Prior", "unit", 1, 1)


def test_another_word_is_refused():
    with pytest.raises(UserError, match=r"Prior\(share='row'\)"):
        check_share("Prior", "row", 1)


@pytest.mark.parametrize(("dim", "ndim"), [(2, 2), (5, 4), (-3, 2), (2, 1)])
def test_a_dimension_that_the_weight_does_not_have_is_refused(dim, ndim):
    with pytest.raises(NotImplementedError, match=rf"Prior\('unit', dim={dim}\): the weights have {ndim} dimensions"):
        shared_dims("Prior", "unit", dim, ndim)


def test_a_dimension_is_a_whole_number():
    with pytest.raises(UserError, match=r"Prior\(dim=1.5\)"):
        check_share("Prior", "unit", 1.5)
