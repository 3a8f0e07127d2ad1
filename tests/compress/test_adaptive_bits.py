"""Adaptive bits: what is read is what was written, in hardly more bits than the models say."""

import contextlib
import math
import random

import pytest

from pyro_vd.compress.adaptive_bits import BitReader, BitWriter, code_natural, code_signed


def written(code, values):
    coder = BitWriter()
    for value in values:
        assert code(coder, value) == value
    return coder


def read_back(code, coder, count):
    reader = BitReader(coder.finish())
    return [code(reader, 0) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_any_bits_in_any_contexts_come_back(seed):
    draw = random.Random(seed)  # noqa: S311
    share = draw.random() ** 3
    bits = [int(draw.random() < share) for _ in range(draw.randrange(500))]
    contexts = [tuple(draw.choice("abc") + str(level) for level in range(draw.randrange(4))) for _ in bits]
    coder = BitWriter()
    for bit, names in zip(bits, contexts, strict=True):
        coder.bit(bit, *names)
    reader = BitReader(coder.finish())
    assert [reader.bit(0, *names) for names in contexts] == bits
    assert 8 * len(coder.finish()) <= coder.entropy + 40


def test_one_context_is_the_estimator_of_krichevsky_and_trofimov():
    """A sequence of a zeros and b ones has probability Gamma(a + 1/2) Gamma(b + 1/2) / (pi Gamma(a + b + 1))."""
    zeros, ones = 70, 30
    coder = BitWriter()
    for index in range(zeros + ones):
        coder.bit(int(index % 10 < 3), "context")
    log_probability = math.lgamma(zeros + 0.5) + math.lgamma(ones + 0.5) - math.lgamma(zeros + ones + 1)
    assert coder.entropy == pytest.approx((math.log(math.pi) - log_probability) / math.log(2), abs=0.01)


def test_a_new_context_begins_with_the_probability_of_the_one_before():
    """(0 + 4 p) / (0 + 4) = p."""
    coder = BitWriter()
    for _ in range(99):
        coder.bit(1, "general")
    before = coder.entropy
    coder.bit(0, "general", "particular")
    assert coder.entropy - before == pytest.approx(-math.log2(0.5 / 100), abs=0.02)


def test_a_particular_context_learns_what_the_general_one_cannot():
    coder = BitWriter()
    for index in range(2000):
        coder.bit(index % 2, "all", ("parity", index % 2))
    assert coder.entropy < 60
    general = BitWriter()
    for index in range(2000):
        general.bit(index % 2, "all")
    assert general.entropy > 1999


def test_a_certain_bit_costs_nearly_nothing():
    coder = BitWriter()
    for _ in range(100_000):
        coder.bit(0, "dead")
    assert len(coder.finish()) <= 4
    assert coder.entropy < 12


def test_numbers_of_all_sizes_come_back():
    numbers = [*range(40), 2**31 - 1, 2**31, 2**53, 2**63, 5, 5, 5]
    coder = written(lambda c, n: code_natural(c, n, "all", "n"), numbers)
    assert read_back(lambda c, n: code_natural(c, n, "all", "n"), coder, len(numbers)) == numbers
    integers = [0, -1, 1, -2, 2, 1000, -1000, -(2**40), 2**40]
    coder = written(lambda c, n: code_signed(c, n, "z"), integers)
    assert read_back(lambda c, n: code_signed(c, n, "z"), coder, len(integers)) == integers


def test_a_histogram_is_learned():
    draw = random.Random(0)  # noqa: S311
    weights = [40, 30, 15, 10, 5]
    numbers = draw.choices(range(5), weights, k=5000)
    coder = written(lambda c, n: code_natural(c, n, "n"), numbers)
    entropy = -sum(weight / 100 * math.log2(weight / 100) for weight in weights)
    assert coder.entropy < 1.02 * 5000 * entropy + 40


def test_contexts_of_a_long_number_are_few():
    """A file must not make a reader remember more than it has weights."""
    coder, draw = BitWriter(), random.Random(0)  # noqa: S311
    for _ in range(2000):
        code_natural(coder, draw.randrange(2**60), "n")
    assert len(coder._counts) < 65 + 65 * 128


def test_a_number_without_end_is_refused():
    class Endless:
        bits = iter([1] * 1000)

        def bit(self, bit, *contexts):
            return next(self.bits)

    with pytest.raises(ValueError, match="more than 64 bits"):
        code_natural(Endless(), 0, "n")


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_read_or_refused(seed):
    reader = BitReader(random.Random(seed).randbytes(seed))  # noqa: S311
    with contextlib.suppress(AssertionError):  # of the decoder
        bits = {reader.bit(0, "a", index % 3) for index in range(2000)}
        if not bits <= {0, 1}:
            raise ValueError(f"bits {bits}")
