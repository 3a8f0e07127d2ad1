"""Sizes: which lengths of tensors count the same units, and which never change."""

import pytest
import torch
from torch import nn

from pyro_vd.compress.sizes import is_resizable, tensor_sizes

MODULES = {
    "Linear": nn.Linear(4, 6),
    "Embedding": nn.Embedding(5, 3),
    "Conv2d": nn.Conv2d(4, 6, 3),
    "Conv1d, grouped": nn.Conv1d(4, 6, 3, groups=2),
    "ConvTranspose2d": nn.ConvTranspose2d(4, 6, 3),
    "ConvTranspose1d, grouped": nn.ConvTranspose1d(4, 6, 3, groups=2),
    "BatchNorm1d": nn.BatchNorm1d(4),
    "InstanceNorm2d": nn.InstanceNorm2d(4, affine=True),
    "GroupNorm": nn.GroupNorm(2, 6),
    "PReLU": nn.PReLU(4),
    "LSTM": nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "GRU": nn.GRU(3, 4),
    "MultiheadAttention": nn.MultiheadAttention(6, 3),
}


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_sizes_of_one_name_are_one_number(module):
    assert is_resizable(module)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    tensors.pop("num_batches_tracked", None)
    sizes = tensor_sizes(module)
    assert tensors.keys() <= sizes.keys()
    numbers = {}
    for key, tensor in tensors.items():
        for length, size in zip(tensor.shape, sizes[key], strict=False):
            if size is not None:
                assert length % size.multiple == 0
                numbers.setdefault(size.units, set()).add(length // size.multiple)
    assert all(len(found) == 1 for found in numbers.values())


def units_of(module):
    return {size for sizes in tensor_sizes(module).values() for size in sizes if size is not None}


def test_a_group_and_a_head_are_taken_whole():
    assert units_of(nn.Conv1d(4, 6, 3, groups=2)) == {("groups", 3)}
    assert tensor_sizes(nn.Conv1d(4, 6, 3, groups=2))["weight"] == (("groups", 3), None)
    assert tensor_sizes(nn.ConvTranspose1d(4, 6, 3, groups=2)) == {
        "weight": (("groups", 2), None), "bias": (("groups", 3),)
    }  # fmt: skip
    assert units_of(nn.GroupNorm(2, 6)) == {("groups", 3)}
    assert units_of(nn.MultiheadAttention(6, 3)) == {("heads", 2), ("heads", 6), ("inputs", 1), ("outputs", 1)}
    assert units_of(nn.GRU(3, 4)) == {("hidden", 1), ("hidden", 3), ("inputs", 1)}


def test_what_never_changes():
    assert tensor_sizes(nn.PReLU()) == {}
    assert not is_resizable(nn.LayerNorm(4))
    assert not is_resizable(nn.MultiheadAttention(6, 3).out_proj)  # its parent counts it
    assert not is_resizable(torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
