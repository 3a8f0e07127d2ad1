"""Adam and AdamW: torch's numbers in either form, and settings that are refused."""

import math

import numpy as np
import pytest
import torch

from pyro_vd import optim
from pyro_vd.errors import UserError
from tests.optim.rules import check_rule


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_rule_of_adam_is_pytorchs(dtype, scale):
    check_rule(optim.Adam(), lambda groups: torch.optim.Adam(groups, fused=True), dtype, scale)


@pytest.mark.parametrize(("betas", "eps"), [((0.8, 0.95), 1e-3), ((0.0, 0.999), 1e-8), ((0.0, 0.0), 1e-2)])
def test_the_settings_of_adam_are_pytorchs(betas, eps):
    check_rule(optim.Adam(betas, eps), lambda groups: torch.optim.Adam(groups, betas=betas, eps=eps))


@pytest.mark.parametrize("decay", [0.0, 0.01, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rule_of_adamw_is_pytorchs(decay, dtype):
    value = optim.AdamW(betas=(0.8, 0.99), eps=1e-6, weight_decay=decay)
    check_rule(value, lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.99), eps=1e-6, weight_decay=decay), dtype)


def test_torchs_default_decay_is_ours():
    check_rule(optim.AdamW(), torch.optim.AdamW)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) must be less than 1"),
        ({"betas": (-0.1, 0.9)}, r"betas\[0\]=-0.1"),
        ({"betas": (0.9, math.nan)}, r"betas\[1\]=nan"),
        ({"betas": 0.9}, "betas=0.9 must be two numbers"),
        ({"betas": (0.9, 0.99, 0.999)}, r"betas=\(0.9, 0.99, 0.999\) must be two numbers"),
        ({"betas": ("a", 0.9)}, r"betas\[0\]='a' must be a number"),
        ({"eps": -1e-8}, "eps=-1e-08"),
        ({"eps": math.inf}, "eps=inf"),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings, reason):
    with pytest.raises(UserError, match=f"{kind.__name__}: {reason}"):
        kind(**settings)


@pytest.mark.parametrize("decay", [-1e-3, math.nan, math.inf, "much"])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UserError, match="AdamW: weight_decay="):
        optim.AdamW(weight_decay=decay)


def test_numbers_are_pythons():
    """A NumPy scalar has another repr, and a checkpoint compares reprs."""
    ours = optim.AdamW(betas=[np.float64(0.9), 0], eps=np.float64(1e-8), weight_decay=np.float64(0.5))
    assert repr(ours) == "AdamW(betas=(0.9, 0.0), eps=1e-08, weight_decay=0.5)"
