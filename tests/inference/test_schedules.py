"""Schedules: their corners, their slopes, and that they need no state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_vd.inference.schedules import constant, hold_then_decay, warm_up


def test_constant():
    assert [constant()(epoch) for epoch in (0, 7, 10**6)] == [1.0, 1.0, 1.0]
    assert constant(0.25)(3) == 0.25


def test_hold_then_decay_is_molchanovs():
    schedule = hold_then_decay(100, 200)
    assert [schedule(epoch) for epoch in (0, 1, 99, 100)] == [1.0] * 4
    assert schedule(101) == pytest.approx(0.99)
    assert schedule(150) == 0.5
    assert schedule(199) == pytest.approx(0.01)


def test_hold_then_decay_without_a_hold():
    assert [hold_then_decay(0, 4)(epoch) for epoch in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_hold_then_decay_ends_at_zero_and_stays():
    """A resumed run may be longer; a negative learning rate would climb the loss."""
    schedule = hold_then_decay(2, 4)
    assert [schedule(epoch) for epoch in (4, 5, 100)] == [0.0, 0.0, 0.0]


def test_warm_up():
    schedule = warm_up(5, 15)
    assert [schedule(epoch) for epoch in range(6)] == [0.0] * 6
    assert schedule(6) == pytest.approx(1 / 15)
    assert schedule(19) == pytest.approx(14 / 15)
    assert [schedule(epoch) for epoch in (20, 21, 1000)] == [1.0] * 3


def test_warm_up_without_a_wait_starts_at_zero():
    assert [warm_up(0, 2)(epoch) for epoch in range(3)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("hold", "total"), [(-1, 5), (5, 5), (6, 5), (0, 0), (0, -1)])
def test_hold_then_decay_refuses_by_value(hold, total):
    with pytest.raises(ValueError, match=rf"hold={hold}, total={total}"):
        hold_then_decay(hold, total)


@pytest.mark.parametrize(("wait", "ramp"), [(-1, 5), (0, 0), (3, -2)])
def test_warm_up_refuses_by_value(wait, ramp):
    with pytest.raises(ValueError, match=rf"wait={wait}, ramp={ramp}"):
        warm_up(wait, ramp)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 200))
def test_schedules_are_monotone_and_within_bounds(start, length, epoch):
    down, up = hold_then_decay(start, start + length), warm_up(start, length)
    assert 0 <= down(epoch + 1) <= down(epoch) <= 1
    assert 0 <= up(epoch) <= up(epoch + 1) <= 1
    assert down(epoch) + up(epoch) == pytest.approx(1)  # the same ramp, mirrored
