"""Codings: exact, the shortest one, and refusals of weights that are not on their grid."""

import lzma

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pyro_vd.compress import load, quantize, save
from pyro_vd.compress.coding import _to_gaps, _to_indices
from pyro_vd.errors import UserError
from pyro_vd.models import LeNet300


@given(st.lists(st.integers(0, 1_000), max_size=40), st.integers(1, 2_000))
def test_gaps_say_where_the_weights_are(gaps, extra):
    index = np.cumsum(np.array(gaps, dtype=np.int64) + 1) - 1
    assert _to_indices(_to_gaps(index)).tolist() == index.tolist()
    assert _to_gaps(index).nbytes == len(index) + sum(gap // 255 for gap in gaps)


def test_each_tensor_has_the_shortest_coding_that_is_exact(tmp_path):
    weight = torch.zeros(100, 100)
    weight[0, :50] = torch.randn(50)
    net = nn.Linear(100, 100, bias=False)

    def size(values, steps=None):
        net.weight.data = values
        save(net, tmp_path / "net", steps)
        content = lzma.decompress((tmp_path / "net").read_bytes())
        assert torch.equal(load(tmp_path / "net", nn.Linear(100, 100, bias=False)).weight, values)
        return sum(array.nbytes for array in safetensors.torch.load(content).values())

    skips = (100 * 100 - 50) // 255  # at most: none behind the last weight
    assert size(weight) <= 50 * (4 + 1) + skips
    assert size(weight.half().float()) <= 50 * (2 + 1) + skips
    on_grid = (weight * 10).round() / 8
    assert size(on_grid, {"weight": 0.125}) <= 50 * (1 + 1) + skips
    assert size(torch.randn(100, 100)) == 4 * 100 * 100


def test_what_is_not_on_its_grid_is_refused(tmp_path):
    net = LeNet300()
    with pytest.raises(UserError, match=r"'fc2.weight' is not on the grid of step size 0.1"):
        save(net, tmp_path / "net", {"fc2.weight": 0.1})
    save(quantize(net, {"fc2.weight": 0.1}), tmp_path / "net", {"fc2.weight": 0.1})


@pytest.mark.parametrize("numbers", [[0.0, -0.0, 1e-45, -3e38], [float("inf"), 1.0, float("nan")], []])
def test_odd_numbers_survive(numbers, tmp_path):
    net = nn.Module()
    net.register_buffer("values", torch.tensor([*numbers, *[0.0] * 100]))
    save(net, tmp_path / "net")
    fresh = nn.Module()
    fresh.register_buffer("values", net.values / 1)  # not finite where the saved one is not
    torch.testing.assert_close(load(tmp_path / "net", fresh).values, net.values, rtol=0, atol=0, equal_nan=True)


def test_a_step_that_is_far_too_fine_is_refused(tmp_path):
    net = nn.Linear(3, 3)
    with pytest.raises(UserError, match="beyond 32 bits"):
        save(quantize(net, {"weight": 1e-12}), tmp_path / "net", {"weight": 1e-12})
