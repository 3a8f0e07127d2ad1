"""SGD: torch's numbers in either form, and settings that are refused."""

import itertools
import math

import pytest
import torch

from pyro_vd import optim
from pyro_vd.errors import UserError
from tests.optim.rules import check_rule

SETTINGS = [
    (momentum, nesterov, decay)
    for momentum, nesterov, decay in itertools.product([0.0, 0.5, 0.9], [False, True], [0.0, 5e-4, 0.3])
    if momentum or not nesterov
]


@pytest.mark.parametrize(("momentum", "nesterov", "decay"), SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rule_of_sgd_is_pytorchs(momentum, nesterov, decay, dtype):
    settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
    check_rule(optim.SGD(**settings), lambda groups: torch.optim.SGD(groups, **settings), dtype)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"momentum": 1.0}, "momentum=1 must be less than 1"),
        ({"momentum": -0.1}, "momentum=-0.1"),
        ({"momentum": math.nan}, "momentum=nan"),
        ({"momentum": "high"}, "momentum='high' must be a number"),
        ({"weight_decay": -1e-4}, "weight_decay=-0.0001"),
        ({"weight_decay": math.inf}, "weight_decay=inf"),
        ({"nesterov": True}, "nesterov=True needs a momentum"),
        ({"nesterov": 1, "momentum": 0.9}, "nesterov=1 must be True or False"),
    ],
)
def test_settings_out_of_range_are_refused(settings, reason):
    with pytest.raises(UserError, match=f"SGD: {reason}"):
        optim.SGD(**settings)
