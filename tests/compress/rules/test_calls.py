"""Calls: their arguments by position and by name, and their words in messages."""

import torch
from torch import fx, nn

from pyro_vd.compress.rules.calls import Call, unknown
from pyro_vd.compress.rules.labels import Labeled, outside


def make(name="mean", module=None, args=(), kwargs=None):
    node = fx.Graph().placeholder("x")
    return Call(name, node, module, args, kwargs or {}, [(2,)])


X = Labeled((2, 3, 4), outside(3))


def test_axes_are_counted_from_the_first():
    assert make(args=(X, -1)).axes() == [2]
    assert make(args=(X,), kwargs={"dim": (0, -2)}).axes() == [0, 1]
    assert make(args=(X,)).axes() == []
    assert make(args=(X,)).axes(default=1) == [1]


def test_tensors_are_found_in_nested_arguments():
    call = make(args=([X, X], 1), kwargs={"other": X})
    assert call.tensors == [X, X, X]
    assert call.argument(1, "dim") == 1
    assert call.argument(2, "mode", "constant") == "constant"


def test_a_message_names_the_layer_or_the_operation_and_what_to_do():
    assert make("0.fc", nn.Linear(1, 1), (X,)).describe() == "layer '0.fc' (Linear)"
    assert make("mean", None, (X,)).describe() == "operation 'x' (mean of (2, 3, 4))"
    assert str(unknown("layer 'a'", "untie them")) == (
        "shrink: layer 'a' is not known to keep channels apart; untie them; the network is untouched"
    )


def test_a_layer_runs_on_labels():
    labels = Labeled((2, 2, 2), torch.tensor([1, 2]).view(1, 2, 1))
    assert make("flatten", nn.Flatten(), (labels,)).run_on_labels().tolist() == [[1, 1, 2, 2]] * 2
