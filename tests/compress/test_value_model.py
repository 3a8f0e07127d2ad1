"""Values: integers, bytes and step sizes of any kind come back."""

import math
import random

import pytest

from pyro_vd.compress.adaptive_bits import BitReader, BitWriter, code_natural, code_signed
from pyro_vd.compress.value_model import code_bytes, code_cells, code_step


@pytest.mark.parametrize("largest", [1, 3, 40, 2**31 - 1])
def test_cells_come_back(largest):
    draw = random.Random(0)  # noqa: S311
    cells = [draw.choice((-1, 1)) * draw.randint(1, largest) for _ in range(300)]
    coder = BitWriter()
    assert code_cells(coder, cells, "w") == cells
    assert code_cells(BitReader(coder.finish()), [0] * 300, "w") == cells


def test_bytes_come_back():
    draw = random.Random(0)  # noqa: S311
    rows = [[draw.randrange(256), 0, draw.choice((7, 255)), draw.randrange(4)] for _ in range(200)]
    coder = BitWriter()
    assert code_bytes(coder, rows, "b") == rows
    assert code_bytes(BitReader(coder.finish()), [[0] * 4] * 200, "b") == rows


def test_a_column_of_equal_bytes_costs_nearly_nothing():
    coder = BitWriter()
    code_bytes(coder, [[63]] * 1000, "b")
    assert coder.entropy < 60


@pytest.mark.parametrize("step", [1.0, 0.125, 0.3, 1.75 * 2**-9, 5e-324, 1.7e308, math.pi, 2.0**70])
def test_a_step_size_comes_back_exactly(step):
    coder = BitWriter()
    assert code_step(coder, step) == step
    assert code_step(BitReader(coder.finish()), 1.0) == step


def test_round_step_sizes_take_few_bits():
    def bits(step):
        coder = BitWriter()
        code_step(coder, step)
        return coder.entropy

    assert bits(0.0625) < 12
    assert bits(0.1) > 60


@pytest.mark.parametrize(("odd", "power"), [(1, 1024), (1, 10**6), (1, -2000)])
def test_a_step_size_that_is_no_number_is_refused(odd, power):
    coder = BitWriter()
    code_natural(coder, odd // 2, "odd factor")
    code_signed(coder, power, "power of two")
    with pytest.raises(ValueError, match="a step size of"):
        code_step(BitReader(coder.finish()), 1.0)
