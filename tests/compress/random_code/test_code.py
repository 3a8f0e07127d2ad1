"""The random code: every weight is its scale times its candidate's number, and the file holds the code exactly."""

import math

import numpy as np
import pytest
import torch

from pyro_vd.compress.adaptive_bits import BitReader, BitWriter, code_natural
from pyro_vd.compress.random_code.candidates import MOST_BITS, draw_candidates
from pyro_vd.compress.random_code.code import RandomCode, code_random, decode, members, round_scale

SHAPES = {"conv.weight": (3, 2, 2, 2), "fc.bias": (5,), "fc.weight": (5, 7)}
CODE = RandomCode(9, 11, {"conv.weight": 0.25, "fc.weight": 3.0}, (7, 2000, 0, 13, 2047, 99, 1))


def test_members_are_a_partition_into_blocks_of_equal_size():
    parts = members(3, 59, 7)
    assert sorted(torch.cat(parts).tolist()) == list(range(59))
    assert sorted({len(part) for part in parts}) == [8, 9]


def test_every_weight_is_its_scale_times_its_number():
    decoded = decode(CODE, SHAPES)
    assert {name: tuple(weight.shape) for name, weight in decoded.items()} == {
        name: SHAPES[name] for name in CODE.scales
    }
    flat = torch.cat([decoded[name].flatten() / scale for name, scale in CODE.scales.items()])
    for block, own in enumerate(members(9, 59, 7)):
        expected = draw_candidates(9, 11, block, [CODE.indices[block]], len(own))[0]
        assert np.array_equal(flat[own].numpy(), expected)


def test_an_index_decides_the_weights_of_its_block_only():
    indices = list(CODE.indices)
    indices[3] += 1
    changed = decode(RandomCode(9, 11, CODE.scales, tuple(indices)), SHAPES)
    before, after = (
        torch.cat([weight.flatten() for weight in each.values()]) for each in (decode(CODE, SHAPES), changed)
    )
    assert set((before != after).nonzero().flatten().tolist()) == set(members(9, 59, 7)[3].tolist())


@pytest.mark.parametrize("code", [CODE, RandomCode(0, 1, {"fc.bias": 1e-5}, (1, 0)), RandomCode()])
def test_the_file_holds_the_code(code):
    writer = BitWriter()
    rounded = RandomCode(
        code.seed, code.bits, {name: round_scale(scale) for name, scale in code.scales.items()}, code.indices
    )
    assert code_random(writer, SHAPES, code) == rounded
    assert code_random(BitReader(writer.finish()), SHAPES, RandomCode()) == rounded


def test_an_index_takes_its_bits_and_no_more():
    def entropy(count):
        writer = BitWriter()
        code_random(writer, SHAPES, RandomCode(1, 11, CODE.scales, (5,) * count))
        return writer.entropy

    assert entropy(12) - entropy(11) == pytest.approx(11, abs=1e-9)


def test_a_scale_is_rounded_to_three_percent():
    scales = np.exp(np.linspace(-30, 30, 999))
    rounded = np.array([round_scale(scale) for scale in scales])
    assert np.abs(rounded / scales - 1).max() < 1 / 32
    assert [round_scale(scale) for scale in rounded] == rounded.tolist()
    assert round_scale(1.0) == 1.0
    assert 0 < round_scale(1e-300) < 1e-38
    assert 1e38 < round_scale(1e300) < math.inf


@pytest.mark.parametrize(("bits", "blocks"), [(MOST_BITS + 1, 1), (2, 41), (2, 0), (2, 2**40)])
def test_what_is_no_code_of_these_tensors_is_refused(bits, blocks):
    writer = BitWriter()
    for name in SHAPES:
        if writer.bit(int(name != "conv.weight"), "random"):
            for _ in range(12):
                writer.bit(1)
    for number, name in ((0, "seed"), (bits, "bits"), (blocks, "blocks")):
        code_natural(writer, number, name)
    with pytest.raises(ValueError, match=f"{blocks} blocks of {bits} bits for 40 weights"):
        code_random(BitReader(writer.finish()), SHAPES, RandomCode())
