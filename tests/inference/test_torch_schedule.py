"""Schedules made of PyTorch's schedulers give the rates that the schedulers give, and are values."""

import copy
import dataclasses

import pytest
import torch
from torch.optim import lr_scheduler

from pyro_vd import schedules
from pyro_vd.errors import UserError
from pyro_vd.inference.engine import Engine
from pyro_vd.inference.schedules import describe_schedule
from pyro_vd.inference.torch_schedule import FromTorch
from tests._asserts import same, untimed, values
from tests._pairs import fresh, interrupt_at

CASES = [
    (lr_scheduler.StepLR, {"step_size": 3, "gamma": 0.5}),
    (lr_scheduler.MultiStepLR, {"milestones": [2, 5, 5], "gamma": 0.1}),
    (lr_scheduler.ExponentialLR, {"gamma": 0.9}),
    (lr_scheduler.CosineAnnealingLR, {"T_max": 7, "eta_min": 0.05}),
    (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 3, "T_mult": 2}),
    (lr_scheduler.LinearLR, {"start_factor": 0.2, "total_iters": 4}),
    (lr_scheduler.PolynomialLR, {"total_iters": 8, "power": 2}),
    (lr_scheduler.CyclicLR, {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 3, "cycle_momentum": False}),
    (lr_scheduler.OneCycleLR, {"max_lr": 1.0, "total_steps": 20, "cycle_momentum": False}),
]


def stepped(scheduler, options, lr, epochs=12):
    """PyTorch's own loop."""
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=lr)
    made, rates = scheduler(optimizer, **options), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return rates


@pytest.mark.parametrize(("scheduler", "options"), CASES)
def test_the_rates_are_those_of_the_scheduler(scheduler, options):
    expected = stepped(scheduler, options, lr=1.0)
    schedule = FromTorch(scheduler, **options)
    assert [schedule(epoch) for epoch in range(12)] == expected
    fresh_one = FromTorch(scheduler, **options)
    assert [fresh_one(epoch) for epoch in (11, 3, 7, 0)] == [expected[epoch] for epoch in (11, 3, 7, 0)]


def test_fit_multiplies_its_learning_rate():
    schedule = FromTorch(lr_scheduler.StepLR, step_size=1, gamma=0.5)
    history = fresh(lr=0.08, lr_schedule=schedule, epochs=3).history
    assert [row["lr"] for row in history] == stepped(lr_scheduler.StepLR, {"step_size": 1, "gamma": 0.5}, 0.08, 3)


def test_it_is_a_value():
    first, second = (FromTorch(lr_scheduler.MultiStepLR, gamma=0.1, milestones=[2, 5]) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != FromTorch(lr_scheduler.MultiStepLR, gamma=0.1, milestones=[2, 6])
    assert describe_schedule(first) == "FromTorch(MultiStepLR, gamma=0.1, milestones=(2, 5))"
    assert copy.deepcopy(first) == first
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.scheduler = lr_scheduler.StepLR
    assert schedules.FromTorch is FromTorch


def test_a_run_resumes_with_it(tmp_path, monkeypatch):
    how = {"lr_schedule": FromTorch(lr_scheduler.ExponentialLR, gamma=0.5), "epochs": 3}
    whole = fresh(**how)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            fresh(checkpoint=tmp_path / "run", **how)
    resumed = fresh(checkpoint=tmp_path / "run", **how)
    assert same(values(whole), values(resumed))
    assert untimed(whole.history) == untimed(resumed.history)


def test_a_scheduler_that_ends_too_early_is_refused_before_the_first_step(monkeypatch):
    monkeypatch.setattr(Engine, "step", None)  # a call of it would be a TypeError
    ended = FromTorch(lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=3, cycle_momentum=False)
    with pytest.raises(UserError, match=r"FromTorch\(OneCycleLR, .*\) has no rate at epoch 4"):
        fresh(lr_schedule=ended, epochs=6)


def test_a_rate_out_of_range_is_refused_before_the_first_step(monkeypatch):
    monkeypatch.setattr(Engine, "step", None)
    with pytest.raises(UserError, match=r"lr_schedule\(3\)=-1 must be"):
        fresh(lr_schedule=FromTorch(lr_scheduler.StepLR, step_size=3, gamma=-1.0), epochs=6)


@pytest.mark.parametrize(("arguments", "options", "message"), [
    (("StepLR",), {}, "'StepLR' is not a class of torch.optim.lr_scheduler"),
    ((torch.optim.SGD,), {}, "is not a class of torch.optim.lr_scheduler"),
    ((lr_scheduler.ReduceLROnPlateau,), {}, "ReduceLROnPlateau follows a score"),
    ((lr_scheduler.LambdaLR,), {"lr_lambda": lambda epoch: 1.0}, "LambdaLR is made of a function"),
    ((lr_scheduler.LambdaLR,), {"lr_lambda": [lambda epoch: 1.0]}, "LambdaLR is made of a function"),
    ((lr_scheduler.StepLR,), {}, "StepLR cannot be made with {}"),
    ((lr_scheduler.StepLR,), {"step_siez": 1}, "StepLR cannot be made with"),
    ((lr_scheduler.StepLR,), {"step_size": 0}, "StepLR cannot be made with"),
    ((lr_scheduler.OneCycleLR,), {"max_lr": 1.0, "total_steps": 5}, "OneCycleLR changes momentum too"),
])  # fmt: skip
def test_what_is_no_function_of_the_epoch_is_refused(arguments, options, message):
    with pytest.raises(UserError, match=message):
        FromTorch(*arguments, **options)
