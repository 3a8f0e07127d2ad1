"""Accuracy as a target: the smallest network that is still accurate enough, on the held-out examples given."""

import sys

import pytest
import torch
from torch import nn

from pyro_vd import Gaussian, compress, sparsify
from pyro_vd.compress import Accuracy, TargetError, find_candidate
from pyro_vd.errors import UserError
from tests.compress.test_targets import X, net, posterior

Y = net()(X).argmax(1)  # the labels that the network without noise predicts


def measure(pair, threshold):
    """The number of weights at a threshold, and the share of labels that it predicts."""
    masks = pair.masks(threshold)
    found = (pair.mean(masks)(X).argmax(1) == Y).double().mean().item()
    return sum(int(mask.sum()) for mask in masks.values()), found


# Mutants: the largest network that is accurate enough, a bisection that stops at the first point.
@pytest.mark.parametrize("least", [0.7, 0.9, 0.95])
def test_it_is_the_smallest_network_that_is_accurate_enough(least):
    pair = posterior()
    target = Accuracy(least, X, Y)
    found = find_candidate(pair, X, target)
    assert target.measure(found) >= least
    assert found.report.nonzero < measure(pair, pair.threshold)[0]
    one_less = pair.log_alpha()
    ranked = torch.cat([values.flatten() for values in one_less.values()]).sort().values
    nonzero, accuracy = measure(pair, ranked[found.report.nonzero - 1].item())
    assert nonzero == found.report.nonzero - 1
    assert accuracy < least


def test_measured_is_the_share_of_correct_labels_of_all_batches(monkeypatch):
    monkeypatch.setattr("pyro_vd.compress.accuracy.BATCH_SIZE", 7)
    wrong = Y.clone()
    wrong[[0, 8, 39]] = (wrong[[0, 8, 39]] + 1) % 3
    pair = posterior()
    candidate = find_candidate(pair, X)
    same = (candidate.net(X).argmax(1) == wrong).double().mean().item()
    assert Accuracy(0.5, X, wrong).measure(candidate) == pytest.approx(same)


def test_a_network_that_is_not_accurate_enough_at_the_start_is_refused_with_what_it_is():
    pair = posterior()
    with pytest.raises(TargetError, match=r"Accuracy\(least=0.99\) is not reached .* threshold 3 with 0") as refused:
        find_candidate(pair, X, Accuracy(0.99, X, (Y + 1) % 3))
    assert refused.value.nearest.report.threshold == 3.0


def test_any_label_is_better_than_a_constant_output():
    """A constant output that is right for all examples is refused as it is for any target."""
    found = find_candidate(posterior(), X, Accuracy(0.01, X, Y))
    outputs = found.net(X)
    assert (outputs != outputs[0]).any()


def test_inputs_may_be_several():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, left, right):
            return self.body(torch.cat([left, right], 1))

    pair = posterior(make=Towers)
    parts = {"left": X[:, :2], "right": X[:, 2:]}
    found = find_candidate(pair, parts, Accuracy(0.9, parts, Y))
    assert found.report.nonzero == find_candidate(posterior(), X, Accuracy(0.9, X, Y)).report.nonzero


def test_a_target_of_your_own_may_limit_pruning():
    class Close:
        limits_pruning = True

        def measure(self, candidate):
            return (candidate.net(X) - net()(X)).abs().max().item()

        def is_reached(self, measured):
            return measured < 0.1

    pair = posterior()
    found = find_candidate(pair, X, Close())
    assert Close().measure(found) < 0.1
    assert found.report.nonzero < find_candidate(pair, X).report.nonzero


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, X, Y), "must be above 0 and at most 1"),
        ((1.1, X, Y), "must be above 0 and at most 1"),
        (("0.9", X, Y), "must be above 0 and at most 1"),
        ((0.9, X, Y[:-1]), "that of x is 40, and that of y is 39"),
        ((torch.tensor([0.8, 0.9]), X, Y), "must be above 0 and at most 1"),
        ((0.9, X[:0], Y[:0]), "the inputs x hold no example"),
        ((0.9, X.numpy(), Y), "the inputs x hold ndarray; give a tensor, or a tuple or dict of tensors"),
        ((0.9, {}, Y), "the inputs x hold nothing; give a tensor"),
        ((0.9, X, Y.float()), "must be a tensor of class numbers"),
        ((0.9, X, Y[:, None]), "must be a tensor of class numbers"),
        ((0.9, X, Y.tolist()), "must be a tensor of class numbers"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Accuracy(*arguments)


def test_an_output_of_another_form_is_refused():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, x):
            return self.body(x)[:, None]

    candidate = compress.find_candidate(posterior(make=Wrapped), X)
    with pytest.raises(UserError, match="a tensor of logits"):
        Accuracy(0.9, X, Y).measure(candidate)


@pytest.mark.parametrize("labels", [Y + 1, Y - 1])
def test_labels_of_no_class_are_refused_before_the_training(monkeypatch, labels):
    """No prediction is right then, and a training later the nearest network would be blamed."""
    monkeypatch.setattr(sys.modules["pyro_vd.sparsify"], "fit", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(UserError, match=r"labels y from -?\d to \d, but the classes are 0 to 2"):
        sparsify(net(), (X, Y), epochs=1, target=Accuracy(0.5, X, labels))


def test_a_network_that_cannot_be_measured_is_refused_before_the_training(monkeypatch):
    monkeypatch.setattr(sys.modules["pyro_vd.sparsify"], "fit", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(
        UserError, match=r"Accuracy\(least=0.5\): the network does not take the inputs x: mat1 and mat2"
    ):
        sparsify(net(), (X, Y), epochs=1, target=Accuracy(0.5, X[:, :3], Y))
    logit = nn.Sequential(net(), nn.Linear(3, 1))
    with pytest.raises(UserError, match="of two classes or more; write a target of your own"):
        sparsify(logit, (X, Y[:, None]), epochs=1, target=Accuracy(0.5, X, Y), likelihood=Gaussian(1.0))
