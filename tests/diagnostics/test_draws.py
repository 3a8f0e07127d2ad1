"""What all diagnostics share: bad data are refused, and random numbers are drawn from a seed of their own."""

import random

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vd import Gaussian
from pyro_vd.diagnostics import compare, loo, posterior_predictive_check, psis_diagnostic, to_arviz
from pyro_vd.diagnostics._draws import fork_seeded_rng, unpack_data
from pyro_vd.errors import UserError
from tests.diagnostics._data import MEAN, REGRESSION, VARIANCE, conjugate_draws, one_weight, posterior_of


def test_bad_data_are_refused(data):
    x, y = data
    for wrong in ((x.numpy(), y.numpy()), (x, y.tolist()), (x, y[0])):
        with pytest.raises(UserError, match=r"tensors are needed|y is \(\)"):
            to_arviz(posterior_of(), wrong)
    for wrong in ((x, y[:3]), (x[:0], y[:0])):
        with pytest.raises(UserError, match="as many of both are needed"):
            to_arviz(posterior_of(), wrong)
    with pytest.raises(UserError, match="no posterior was given"):
        to_arviz([], data)
    with pytest.raises(UserError, match="differ in scheme, prior or sites"):
        to_arviz([posterior_of(), posterior_of(scheme="hierarchical")], data)
    summed = posterior_of(likelihood=lambda logits: dist.Normal(logits.sum(), 1.0))
    with pytest.raises(
        UserError, match=r"targets y have shape \(20,\), .* needs targets of shape \(\): they must be equal"
    ):
        to_arviz(summed, data)
    joint = posterior_of(likelihood=lambda logits: dist.Normal(logits[:, 0], 1.0).to_event(1))
    with pytest.raises(UserError, match=r"over targets y of shape \(20,\) is one joint event"):
        to_arviz(joint, (x, y.float()))
    column = posterior_of(nn.Linear(3, 1), likelihood=Gaussian(0.5))
    with pytest.raises(
        UserError, match=r"targets y have shape \(9,\), .* needs targets of shape \(9, 1\): give y.unsqueeze"
    ):
        to_arviz(column, (torch.randn(9, 3), torch.randn(9)))  # which would broadcast to (9, 9)


@pytest.mark.parametrize("draws", [to_arviz, psis_diagnostic])
def test_what_draws_takes_a_seed_and_leaves_global_state(draws):
    """The caller's next random numbers are those that they would have been, of torch, numpy and Python."""
    posterior = one_weight(MEAN, VARIANCE)

    def drawn(seed):
        found = draws(posterior, REGRESSION, num_samples=30, seed=seed)
        return found.log_weights if draws is psis_diagnostic else found["posterior"]["weight"].values

    states = [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]
    first = drawn(5)
    assert [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()] == states
    torch.manual_seed(99)
    assert (drawn(5) == first).all()
    assert not (drawn(6) == first).all()


def test_checks_of_draws_draw_nothing():
    data = conjugate_draws(*REGRESSION, num_samples=30)
    state = torch.get_rng_state()
    loo(data)
    posterior_predictive_check(data, np.mean)
    compare({"a": torch.zeros(3)})
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_pytorch_does_not_take_is_refused(seed):
    with pytest.raises(UserError, match=f"seed={seed} must be from"), fork_seeded_rng(seed):
        pass


@pytest.mark.parametrize("data", [torch.zeros(3, 2), (torch.zeros(3, 2),) * 3, None])
def test_data_that_are_no_pair_are_refused(data):
    with pytest.raises(UserError, match=f"the data are a {type(data).__name__}; give LabeledImages, or a pair"):
        unpack_data(data)
