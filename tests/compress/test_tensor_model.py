"""Tensors of every type, with and without a grid, come back bit for bit."""

import math

import pytest
import torch

from pyro_vd.compress.adaptive_bits import BitReader, BitWriter
from pyro_vd.compress.tensor_model import code_tensor, column_positions, to_bytes
from pyro_vd.errors import UserError


def there_and_back(tensor, step=None, name="layer.weight", positions=None):
    positions = (range(tensor.shape[1]) if tensor.ndim == 2 else ()) if positions is None else positions
    coder = BitWriter()
    code_tensor(coder, name, tensor, step, positions)
    reader = BitReader(coder.finish())
    return code_tensor(reader, name, torch.zeros_like(tensor), None, positions)


def sparse(*shape, dtype=torch.float32, share=0.2):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < share)
    return values.to(dtype)


@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (5, 6), (4, 3, 5), (6, 3, 5, 5), (3, 2, 2, 2, 2), (0,), (0, 3), (2, 0)]
)
@pytest.mark.parametrize("step", [None, 0.125, 0.3])
def test_every_shape_comes_back(shape, step):
    tensor = sparse(*shape, share=0.5)
    tensor = tensor if step is None else (tensor / step).round() * step
    assert torch.equal(there_and_back(tensor, step), tensor)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.bool]
)
def test_every_type_comes_back_byte_by_byte(dtype):
    tensor = sparse(5, 6, dtype=dtype)
    assert torch.equal(there_and_back(tensor), tensor)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8])
def test_integers_come_back(dtype):
    limits = torch.iinfo(dtype)
    tensor = torch.tensor([0, limits.max, limits.min, 1, 0, 7], dtype=dtype)
    assert torch.equal(there_and_back(tensor), tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_grids_of_every_type_come_back(dtype):
    tensor = ((sparse(8, 9) / 0.25).round() * 0.25).to(dtype)
    assert torch.equal(there_and_back(tensor, 0.25), tensor)


def test_numbers_that_are_no_numbers_come_back():
    tensor = torch.tensor([math.inf, -math.inf, math.nan, 1e-45, 3.4e38, -0.0, 0.0])
    read = there_and_back(tensor)
    assert torch.equal(read.view(torch.int32)[:5], tensor.view(torch.int32)[:5])
    assert read[5:].view(torch.int32).tolist() == [0, 0]  # the sign of a zero is not kept


def test_indices_of_an_image_are_coded_as_its_mask():
    selected = torch.tensor([index for index in range(784) if 6 <= index % 28 < 22])
    coder = BitWriter()
    code_tensor(coder, "fc.selected", selected, None, ())
    assert coder.entropy < 200
    assert torch.equal(there_and_back(selected, name="fc.selected"), selected)


@pytest.mark.parametrize("values", [[3, 2], [1, 1], [-1, 4], [0, 10**12], []])
def test_other_integers_of_that_name_come_back(values):
    tensor = torch.tensor(values, dtype=torch.int64)
    assert torch.equal(there_and_back(tensor, name="fc.selected"), tensor)


def test_columns_are_at_the_inputs_that_a_layer_selects():
    weight = torch.zeros(2, 3)
    assert column_positions(weight, torch.tensor([1, 4, 9])) == [1, 4, 9]
    for other in (None, torch.tensor([1, 4]), torch.tensor([4, 1, 9]), torch.tensor([1, 4, 2**40])):
        assert list(column_positions(weight, other)) == [0, 1, 2]
    assert list(column_positions(torch.zeros(3), None)) == []


def test_a_value_off_the_grid_is_refused():
    with pytest.raises(UserError, match=r"'layer.weight' is not on the grid of step size 0.25"):
        there_and_back(torch.tensor([[0.25, 0.3]]), 0.25)


def test_a_code_of_another_kind_is_refused():
    coder = BitWriter()
    code_tensor(coder, "a", torch.tensor([3]), None, ())
    with pytest.raises(ValueError, match="as kind"):
        code_tensor(BitReader(coder.finish()), "a", torch.zeros(1, dtype=torch.bool), None, ())


def test_a_cell_beyond_the_type_is_refused():
    coder = BitWriter()
    code_tensor(coder, "a", torch.tensor([2**40]), None, ())
    with pytest.raises((ValueError, OverflowError)):
        code_tensor(BitReader(coder.finish()), "a", torch.zeros(1, dtype=torch.int8), None, ())


def test_bytes_are_those_in_memory():
    assert to_bytes(torch.tensor([[1, 256]], dtype=torch.int16)).tolist() == [[1, 0], [0, 1]]
