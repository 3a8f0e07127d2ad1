"""Schedules: their corners, their slopes, that they need no state, and that they are values."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_vd.errors import UserError
from pyro_vd.inference.schedules import (
    Constant,
    Cosine,
    HoldThenDecay,
    OneCycle,
    StepDecay,
    WarmUp,
    describe_schedule,
    is_per_step,
)


def test_constant():
    assert [Constant()(epoch) for epoch in (0, 7, 10**6)] == [1.0, 1.0, 1.0]
    assert Constant(0.25)(3) == 0.25


def test_hold_then_decay_is_molchanovs():
    schedule = HoldThenDecay(100, 200)
    assert [schedule(epoch) for epoch in (0, 1, 99, 100)] == [1.0] * 4
    assert schedule(101) == pytest.approx(0.99)
    assert schedule(150) == 0.5
    assert schedule(199) == pytest.approx(0.01)


def test_hold_then_decay_without_a_hold():
    assert [HoldThenDecay(0, 4)(epoch) for epoch in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_hold_then_decay_ends_at_zero_and_stays():
    """A resumed run may be longer; a negative learning rate would climb the loss."""
    schedule = HoldThenDecay(2, 4)
    assert [schedule(epoch) for epoch in (4, 5, 100)] == [0.0, 0.0, 0.0]


def test_warm_up():
    schedule = WarmUp(5, 15)
    assert [schedule(epoch) for epoch in range(6)] == [0.0] * 6
    assert schedule(6) == pytest.approx(1 / 15)
    assert schedule(19) == pytest.approx(14 / 15)
    assert [schedule(epoch) for epoch in (20, 21, 1000)] == [1.0] * 3


def test_warm_up_without_a_wait_starts_at_zero():
    assert [WarmUp(0, 2)(epoch) for epoch in range(3)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("hold", "total"), [(-1, 5), (5, 5), (6, 5), (0, 0), (0, -1)])
def test_hold_then_decay_refuses_by_value(hold, total):
    with pytest.raises(UserError, match=rf"hold={hold}, total={total}"):
        HoldThenDecay(hold, total)


@pytest.mark.parametrize(("wait", "ramp"), [(-1, 5), (0, 0), (3, -2)])
def test_warm_up_refuses_by_value(wait, ramp):
    with pytest.raises(UserError, match=rf"wait={wait}, ramp={ramp}"):
        WarmUp(wait, ramp)


def test_warm_up_to_another_weight():
    assert [WarmUp(1, 2, weight=0.5)(epoch) for epoch in range(5)] == [0.0, 0.0, 0.25, 0.5, 0.5]


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_warm_up_refuses_a_weight_by_value(weight):
    with pytest.raises(UserError, match=f"weight={weight}"):
        WarmUp(0, 1, weight)


def test_cosine():
    schedule = Cosine(4, final=0.5)
    assert [schedule(epoch) for epoch in range(7)] == pytest.approx([1.0, 0.927, 0.75, 0.573, 0.5, 0.5, 0.5], abs=1e-3)
    assert Cosine(2)(2) == 0.0


def test_step_decay():
    assert [StepDecay(2, 0.5)(epoch) for epoch in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert StepDecay(20)(59) == pytest.approx(0.01)
    assert [StepDecay(1, 0.0)(epoch) for epoch in (0, 1)] == [1.0, 0.0]


@pytest.mark.parametrize(("every", "factor"), [(0, 0.1), (-1, 0.1), (5, -0.1), (5, 1.1), (5, float("nan"))])
def test_step_decay_refuses_by_value(every, factor):
    reason = f"every={every}, factor={factor}" if every < 1 else f"StepDecay: factor={factor}"
    with pytest.raises(UserError, match=reason):
        StepDecay(every, factor)


@pytest.mark.parametrize(("total", "final"), [(0, 0.0), (-1, 0.0), (5, -0.1), (5, 1.1), (5, float("nan"))])
def test_cosine_refuses_by_value(total, final):
    reason = f"total={total}, final={final}" if total < 1 else f"Cosine: final={final}"
    with pytest.raises(UserError, match=reason):
        Cosine(total, final)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Constant(None), "Constant: value=None must be a number"),
        (lambda: Constant(math.nan), "Constant: value=nan"),
        (lambda: WarmUp(None, 2), "WarmUp: wait=None must be a whole number"),
        (lambda: WarmUp(1.5, 2), "WarmUp: wait=1.5 must be a whole number"),
        (lambda: WarmUp(0, math.inf), "WarmUp: ramp=inf must be a whole number"),
        (lambda: WarmUp(0, 1, "a"), "WarmUp: weight='a' must be a number"),
        (lambda: HoldThenDecay(0, math.inf), "HoldThenDecay: total=inf must be a whole number"),
        (lambda: HoldThenDecay("a", 2), "HoldThenDecay: hold='a' must be a whole number"),
        (lambda: StepDecay(1.5), "StepDecay: every=1.5 must be a whole number"),
        (lambda: Cosine(math.inf), "Cosine: total=inf must be a whole number"),
        (lambda: Cosine(1, None), "Cosine: final=None must be a number"),
    ],
)
def test_a_schedule_refuses_what_is_not_a_number(make, reason):
    with pytest.raises(UserError, match=reason):
        make()


VALUES = [
    Constant(0.5),
    WarmUp(1, 2),
    WarmUp(1, 2, 0.5),
    HoldThenDecay(1, 2),
    Cosine(2),
    Cosine(2, 0.1),
    StepDecay(2),
    StepDecay(2, 0.5),
]


@pytest.mark.parametrize("schedule", VALUES, ids=str)
def test_a_schedule_is_a_value_whose_repr_makes_it_again(schedule):
    again = eval(repr(schedule))  # noqa: S307 (what is tested)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert VALUES.count(schedule) == 1
    assert describe_schedule(schedule) == repr(schedule)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.total = 3


def test_numpy_scalars_become_pythons():
    one, half = np.int64(1), np.float64(0.5)
    assert repr(Constant(half)) == "Constant(value=0.5)"
    assert repr(WarmUp(one, one, half)) == "WarmUp(wait=1, ramp=1, weight=0.5)"
    assert repr(HoldThenDecay(np.int64(0), one)) == "HoldThenDecay(hold=0, total=1)"
    assert repr(StepDecay(one, half)) == "StepDecay(every=1, factor=0.5)"
    assert repr(Cosine(one, half)) == "Cosine(total=1, final=0.5)"
    assert Constant(math.inf).value == math.inf  # a threshold that masks nothing


@dataclasses.dataclass(frozen=True)
class Own:
    rate: float

    def __call__(self, epoch):
        return self.rate**epoch


@dataclasses.dataclass
class Changing:
    rate: float = 1.0

    def __call__(self, epoch):
        return self.rate


def test_only_frozen_dataclasses_are_comparable():
    assert describe_schedule(Own(0.9)) == "Own(rate=0.9)"
    for schedule in (Changing(), lambda epoch: 1.0, abs):
        assert describe_schedule(schedule) is None


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 200))
def test_schedules_are_monotone_and_within_bounds(start, length, epoch):
    down, up = HoldThenDecay(start, start + length), WarmUp(start, length)
    assert 0 <= down(epoch + 1) <= down(epoch) <= 1
    assert 0 <= up(epoch) <= up(epoch + 1) <= 1
    assert down(epoch) + up(epoch) == pytest.approx(1)  # the same ramp, mirrored


@given(
    total=st.integers(1, 200),
    share=st.floats(0.01, 0.99),
    start=st.floats(0, 1),
    final=st.floats(0, 1),
    epoch=st.floats(0, 300),
)
def test_one_cycle_is_the_line_through_three_points(total, share, start, final, epoch):
    schedule = OneCycle(total, share * total, start, final)
    expected = np.interp(epoch, [0, share * total, total], [start, 1.0, final])
    assert schedule(epoch) == pytest.approx(expected, abs=1e-9)


def test_one_cycle_has_its_corners_exactly():
    schedule = OneCycle(10, peak=2.5, start=0.25, final=0.125)
    assert [schedule(epoch) for epoch in (0, 2.5, 10, 11)] == [0.25, 1.0, 0.125, 0.125]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((10, 0), "peak must lie between"), ((10, 10), "peak must lie between"), ((0, 1), "peak must lie between"),
        ((10, math.nan), "OneCycle: peak"), ((10, 2, -0.1), "OneCycle: start"), ((10, 2, 0, 1.1), "OneCycle: final"),
        ((2.5, 1), "OneCycle: total"),
    ],
)  # fmt: skip
def test_one_cycle_refuses_by_value(arguments, reason):
    with pytest.raises(UserError, match=reason):
        OneCycle(*arguments)


def test_one_cycle_alone_changes_at_every_step():
    assert is_per_step(OneCycle(3, 1))
    assert not any(map(is_per_step, (Constant(), WarmUp(0, 1), HoldThenDecay(0, 1), Cosine(1), lambda epoch: 1.0)))
    assert "per_step" not in repr(OneCycle(3, 1))
