"""Stored weights read back as the numbers that the C functions make of them."""

import numpy as np
import pytest
import torch

from pyro_vd.compress.c.values import VALUES, literal, values_of


def test_a_literal_reads_back_to_the_same_number():
    bits = torch.randint(-(2**31), 2**31 - 1, (2000,), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    numbers = [number for number in bits.view(torch.float32).tolist() if np.isfinite(number)]
    for number in [*numbers, 0.0, -0.0, 1.0, 1e30, 123456789.0]:
        text = literal(number)
        assert text.endswith("f")
        assert "." in text or "e" in text
        assert np.float32(text[:-1]) == np.float32(number)


def test_what_float32_cannot_hold_is_infinite():
    assert [literal(number) for number in (1e39, -1e39, float("inf"), float("-inf"), float("nan"))] == [
        "INFINITY", "-INFINITY", "INFINITY", "-INFINITY", "NAN",
    ]  # fmt: skip


def test_float16_is_stored_as_its_bits():
    weight = torch.tensor([1.0, -2.0, 6e-8, 65504.0])
    codes, scale = VALUES["float16"].encode(weight, "layer")
    assert scale == 1
    assert [VALUES["float16"].c_value(code) for code in codes.tolist()] == ["0x3c00", "0xc000", "0x0001", "0x7bff"]


def test_int8_has_its_largest_weight_at_127():
    weight = torch.tensor([[0.5, -1.27], [0.004, 0.0]])
    codes, scale = VALUES["int8"].encode(weight, "layer")
    assert codes.tolist() == [[50, -127], [0, 0]]
    assert scale == pytest.approx(0.01)
    assert [VALUES["int8"].c_value(code) for code in codes.flatten().tolist()] == ["50", "-127", "0", "0"]
    assert torch.allclose(VALUES["int8"].round(weight, "layer"), torch.tensor([[0.5, -1.27], [0.0, 0.0]]))


@pytest.mark.parametrize("name", VALUES)
def test_zeros_stay_zero(name):
    assert not VALUES[name].round(torch.zeros(2, 3), "layer").any()
    assert VALUES[name].round(torch.zeros(0, 3), "layer").shape == (0, 3)


def test_the_nearest_name_is_proposed():
    with pytest.raises(ValueError, match=r"values='int-8': it must be one of .*; did you mean 'int8'\?"):
        values_of("int-8")
