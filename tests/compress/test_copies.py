"""Networks that PyTorch cannot copy are refused in a line that names the weight and what to call."""

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from pyro_vd.compress import prune, quantize, round_to_float16, shrink, to_onnx, to_torch_export
from pyro_vd.compress.copies import copy_network
from pyro_vd.errors import UserError


def pruned_by_torch():
    net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    nn.utils.prune.l1_unstructured(net[1], "bias", 1)
    return net


def recurrent():
    net = nn.Sequential(nn.GRU(3, 2))
    nn.utils.prune.l1_unstructured(net[0], "weight_ih_l0", 1)
    return net


def normed():
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2)))


class Locked(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("no copies\nof this")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (pruned_by_torch, r"'1\.bias' is computed from other tensors and cannot be copied; call torch.nn.utils.prune"),
        (recurrent, r"'0\.weight_ih_l0' is computed from other tensors"),
        (normed, r"'0\.weight' is computed from other tensors .* torch.nn.utils.remove_weight_norm"),
        (lambda: Locked(3, 2), "Locked cannot be copied: no copies$"),
    ],
)
def test_what_cannot_be_copied_is_named(make, named):
    with pytest.raises(UserError, match=f"task: {named}") as refusal:
        copy_network(make(), "task")
    assert "\n" not in str(refusal.value)


def test_everything_that_copies_says_so(tmp_path):
    x = torch.randn(4, 3)
    for task, call in {
        "prune": lambda net: prune(net, {}),
        "quantize": lambda net: quantize(net, {}),
        "round_to_float16": round_to_float16,
        "export": lambda net: to_onnx(net, x, tmp_path / "onnx"),
        "export: ": lambda net: to_torch_export(net, x, tmp_path / "pt2"),
    }.items():
        with pytest.raises(UserError, match=f"^{task}.* is computed from other tensors"):
            call(pruned_by_torch())


def test_a_copy_is_a_copy():
    net = nn.Linear(3, 2)
    copied = copy_network(net, "task")
    assert copied.weight is not net.weight
    assert torch.equal(copied.weight, net.weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda net: prune(net, {"0.weight": torch.ones(2, 3, dtype=torch.bool)}),
        lambda net: quantize(net, {"0.weight": 0.1}),
        round_to_float16,
        lambda net: shrink(prune(net, {"0.weight": torch.eye(2, 3, dtype=torch.bool)}), torch.randn(4, 3)),
    ],
    ids=["prune", "quantize", "round_to_float16", "shrink"],
)
def test_networks_for_use_are_in_eval_mode(make):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 2)).train()
    made = make(net)
    assert not any(module.training for module in made.modules())
    assert all(module.training for module in net.modules())
