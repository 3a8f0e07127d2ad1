"""Latency as a target: what is timed, and which network of the curve is taken. No test depends on a real time."""

import pytest
import torch
from torch import nn

from pyro_vd import compress
from pyro_vd.compress import Latency, TargetError, find_candidate, latency
from pyro_vd.errors import UserError
from tests.compress.test_targets import X, posterior


def take_multiplications(monkeypatch):
    """A machine on which a multiplication takes a millisecond."""
    monkeypatch.setattr(latency, "time_call", lambda net, x: 1e-3 * compress.count_multiplications(net, x))


def test_the_network_is_the_largest_one_that_is_fast_enough(monkeypatch):
    take_multiplications(monkeypatch)
    whole = compress.count_multiplications(find_candidate(posterior(), X).net, X)
    most = 0.6 * whole
    found = find_candidate(posterior(), X, Latency(1e-3 * most, X))
    same = find_candidate(posterior(), X, compress.Multiplications(most))
    assert compress.count_multiplications(found.net, X) <= most
    assert found.report.nonzero == same.report.nonzero


def test_a_time_that_no_network_needs_is_refused_with_the_nearest(monkeypatch):
    take_multiplications(monkeypatch)
    with pytest.raises(TargetError, match=r"Latency\(most=1e-09\) is not reached by any threshold; the nearest"):
        find_candidate(posterior(), X, Latency(1e-9, X))


def test_what_is_timed_is_a_call_with_the_inputs_without_gradients(monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 1e-4)

    class Watch(nn.Linear):
        def forward(self, x):
            self.seen = {(tuple(x.shape), torch.is_grad_enabled())} | getattr(self, "seen", set())
            return super().forward(x)

    net = Watch(4, 2)
    assert latency.time_call(net, torch.zeros(3, 4)) > 0
    assert net.seen == {((3, 4), False)}


def test_inputs_may_be_several(monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 1e-4)

    class Towers(nn.Module):
        def forward(self, left, right):
            return left + right

    target = Latency(10.0, {"left": torch.zeros(2, 3), "right": torch.zeros(2, 3)})
    assert target.is_reached(latency.time_call(Towers(), target.x))


@pytest.mark.parametrize("most", [0, -1.0, float("inf"), float("nan"), True, "fast", torch.ones(2)])
def test_other_times_are_refused(most):
    with pytest.raises(UserError, match="give the seconds for one call, a finite number above 0"):
        Latency(most, X)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, "the inputs x hold nothing; give a tensor"),
        ("x", "the inputs x hold str; give a tensor"),
        (X.numpy(), "the inputs x hold ndarray; give a tensor"),
        (X[:0], "the inputs x hold no example"),
    ],
)
def test_inputs_that_are_no_tensors_are_refused(x, message):
    with pytest.raises(UserError, match=message):
        Latency(1.0, x)
