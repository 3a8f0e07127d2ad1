"""The file that depends on ArviZ's version: unknown versions and missing groups are refused."""

import arviz
import numpy as np
import pytest

from pyro_vd.diagnostics import loo, posterior_predictive_check, to_arviz
from pyro_vd.diagnostics._arviz import from_groups
from pyro_vd.errors import UserError
from tests.diagnostics._data import posterior_of


@pytest.mark.parametrize("version", ["0.22.0", "2.0.0"])
def test_an_unknown_arviz_is_refused(version, data, monkeypatch):
    monkeypatch.setattr(arviz, "__version__", version)
    with pytest.raises(UserError, match=f"ArviZ {version} is not known here"):
        to_arviz(posterior_of(), data, num_samples=1)


@pytest.mark.parametrize(
    ("group", "check"),
    [("log_likelihood", loo), ("posterior_predictive", lambda found: posterior_predictive_check(found, np.mean))],
)
def test_checks_name_the_group_that_is_not_there(group, check):
    with pytest.raises(UserError, match=f"no group {group}"):
        check(from_groups({"posterior": {"w": np.zeros((1, 2, 3))}}, {}, {}))
    with pytest.raises(UserError, match=f"no group {group}"):
        check(None)
