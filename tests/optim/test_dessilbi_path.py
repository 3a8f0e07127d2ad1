"""The path of DessiLBI: support, order of entry and the masks that prune along it."""

import math

import pytest
import torch
from torch import nn

from pyro_vd import compress
from pyro_vd.errors import UserError
from pyro_vd.optim.dessilbi import TorchDessiLBI
from pyro_vd.optim.dessilbi_path import entry_epochs, path_scores, support_masks, unit_masks


def make_trained():
    """Filters 0 .. 2 and weights enter in steps 1, 2, .. by their magnitude."""
    conv = nn.Parameter(torch.tensor([1.0, 0.4, 4.0]).reshape(3, 1, 1, 1).repeat(1, 2, 1, 1))
    conv.data[2, 1] = 0.0  # a zero inside a filter of the support belongs to the support
    matrix = nn.Parameter(torch.tensor([[2.0, -0.3, 0.2, -5.0]]))
    bias = nn.Parameter(torch.ones(3))
    optimizer = TorchDessiLBI([conv, matrix, bias], lr=1.0, kappa=1e-6, nu=1.0, momentum=0.0)  # W does not move
    parameters = {"conv.weight": conv, "conv.bias": bias, "fc.weight": matrix}
    for _ in range(3):
        for parameter in parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    return optimizer, parameters


def test_entries_are_the_first_steps_in_the_support():
    optimizer, parameters = make_trained()
    entry = {name: optimizer.state[p]["entry"] for name, p in parameters.items() if p.ndim > 1}
    assert entry["conv.weight"].shape == (3, 1, 1, 1)
    assert entry["conv.weight"].flatten().tolist() == [1, 2, 1]  # norms sqrt(2), 0.4 sqrt(2), 4
    assert entry["fc.weight"].tolist() == [[1, 0, 0, 1]]
    epochs = entry_epochs(optimizer, parameters, steps_per_epoch=2)
    assert epochs["conv.weight"].flatten().tolist() == [0, 0, 0]
    assert entry_epochs(optimizer, parameters)["conv.weight"].flatten().tolist() == [0, 1, 0]
    assert epochs["fc.weight"].tolist() == [[0, math.inf, math.inf, 0]]
    assert epochs.keys() == {"conv.weight", "fc.weight"}


def test_the_support_is_a_mask_of_the_weights():
    optimizer, parameters = make_trained()
    masks = support_masks(optimizer, parameters)
    assert masks["conv.weight"].all()
    assert masks["conv.weight"].shape == (3, 2, 1, 1)
    assert masks["fc.weight"].tolist() == [[True, False, False, True]]
    assert masks.keys() == {"conv.weight", "fc.weight"}


def test_ranks_go_by_epoch_then_by_norm():
    optimizer, parameters = make_trained()
    scores = path_scores(optimizer, parameters)
    assert scores["conv.weight"].flatten().tolist() == [1, 0, 2]
    assert scores["fc.weight"].tolist() == [[2, 1, 0, 3]]
    optimizer.state[parameters["conv.weight"]]["entry"].copy_(torch.tensor([3.0, 1.0, 4.0]).reshape(3, 1, 1, 1))
    assert path_scores(optimizer, parameters)["conv.weight"].flatten().tolist() == [1, 2, 0]
    assert path_scores(optimizer, parameters, 2)["conv.weight"].flatten().tolist() == [0, 2, 1]
    assert path_scores(optimizer, parameters, 9)["conv.weight"].flatten().tolist() == [1, 0, 2]


def test_pruning_along_the_path_removes_filters_with_their_biases():
    optimizer, parameters = make_trained()
    scores = path_scores(optimizer, parameters)
    masks = unit_masks(parameters, {name: scores[name] for name in ("conv.weight", "fc.weight")}, sparsity=0.4)
    assert masks["conv.weight"][:, :, 0, 0].tolist() == [[True] * 2, [False] * 2, [True] * 2]
    assert masks["conv.bias"].tolist() == [True, False, True]
    assert masks["fc.weight"].tolist() == [[True, False, False, True]]
    for sparsity in (0.0, 0.25, 0.5, 0.75, 1.0):
        mask = unit_masks(parameters, {"fc.weight": scores["fc.weight"]}, sparsity)["fc.weight"]
        assert int((~mask).sum()) == round(4 * sparsity)
    net = nn.Conv2d(2, 3, 1)
    short = {name.removeprefix("conv."): mask for name, mask in masks.items() if name.startswith("conv.")}
    pruned = compress.prune(net, short)
    assert not pruned.weight[1].any()
    assert pruned.bias[1] == 0
    assert pruned.weight[0].all()


def test_bad_shares_and_scores_are_refused():
    weight = torch.ones(2, 2)
    for sparsity in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="must be a share of the units"):
            unit_masks({"w": weight}, {"w": weight}, sparsity)
    with pytest.raises(UserError, match=r"scores of w have shape \(2, 2, 1\)"):
        unit_masks({"w": torch.ones(2, 2, 1)}, {"w": torch.ones(2, 2, 1)}, 0.5)


def test_without_a_gamma_there_is_no_path():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = TorchDessiLBI([weight], lr=0.1, nu=math.inf)
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    for function in (support_masks, entry_epochs, path_scores):
        with pytest.raises(UserError, match="none of the parameters has a Gamma"):
            function(optimizer, {"weight": weight})
    with pytest.raises(UserError, match="none of the parameters has a Gamma"):
        support_masks(torch.optim.SGD([weight], 0.1), {"weight": weight})
