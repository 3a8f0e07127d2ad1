"""Digests of inputs: equal for equal inputs, whatever holds them."""

import pytest
import torch

from pyro_vd.data.digests import ROWS, digest_inputs


@pytest.fixture
def pixels():
    return torch.randint(256, (50, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.float() / 255,
        lambda x: (x.float() / 255).double(),
        lambda x: (x.float() / 255).flatten(1),
        lambda x: (x.float() / 255).contiguous(memory_format=torch.channels_last),
        lambda x: (x,),
        lambda x: x.float().div(255).requires_grad_(),
    ],
    ids=["float", "double", "flat", "channels_last", "tuple", "grad"],
)
def test_copies_have_the_same_digests(pixels, copy):
    assert torch.equal(digest_inputs(copy(pixels)), digest_inputs(pixels))


def test_every_value_and_its_place_count(pixels):
    own = digest_inputs(pixels)
    assert own.shape == (50,)
    assert len(own.unique()) == 50
    for row in range(4):
        changed = pixels.clone()
        changed[7, 0, row, row] += 1
        assert (digest_inputs(changed) != own).nonzero().flatten().tolist() == [7]
    assert not torch.isin(digest_inputs(pixels.flip(-1)), own).any()


def test_a_digest_belongs_to_its_example_in_any_order_and_number():
    x = torch.randn(ROWS + 3, 2)
    order = torch.randperm(len(x))
    assert torch.equal(digest_inputs(x[order]), digest_inputs(x)[order])


def test_several_inputs_count_together():
    x, z = torch.randn(5, 2), torch.arange(5)
    own = digest_inputs({"x": x, "z": z})
    assert not torch.isin(digest_inputs({"x": x, "z": z + 1}), own).any()
    assert torch.equal(digest_inputs((x, None, z.int())), own)


def test_both_parts_of_complex_numbers_count():
    x = torch.randn(5, 2, dtype=torch.complex64)
    assert not torch.isin(digest_inputs(x.conj()), digest_inputs(x)).any()
    assert torch.equal(digest_inputs(x.to(torch.complex128)), digest_inputs(x))


def test_negative_zero_is_zero():
    assert torch.equal(digest_inputs(torch.tensor([[-0.0, 1.0]])), digest_inputs(torch.tensor([[0.0, 1.0]])))


def test_numbers_of_one_axis_are_examples():
    assert len(digest_inputs(torch.arange(6)).unique()) == 6
