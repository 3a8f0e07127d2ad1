"""Tables give back their matrix, and no row takes more bytes than it has to."""

import pytest
import torch

from pyro_vd.compress.c.tables import DENSE, END, LONGEST, code_rows


def decode(table, outputs, inputs):
    """The matrix of a table, as the C function reads it."""
    matrix, gaps, values = torch.zeros(outputs, inputs), iter(table.gaps), iter(table.values)
    for row in matrix:
        gap, index = next(gaps), 0
        if gap == DENSE:
            row[:] = torch.tensor([next(values) for _ in range(inputs)])
            continue
        while gap != END:
            index += gap
            row[index] += next(values)
            gap = next(gaps)
    assert next(gaps, None) is None
    assert next(values, None) is None
    return matrix


@pytest.mark.parametrize("value_bytes", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.01, 0.1, 0.5, 0.7, 0.9, 1.0])
def test_a_table_gives_back_its_matrix_in_as_few_bytes_as_it_can(share, value_bytes):
    torch.manual_seed(0)
    for outputs, inputs in ((4, 1), (3, 50), (5, 2000)):
        matrix = torch.randn(outputs, inputs) * (torch.rand(outputs, inputs) < share)
        table = code_rows(matrix, value_bytes)
        assert torch.equal(decode(table, outputs, inputs), matrix)
        assert all(0 <= gap <= 255 for gap in table.gaps)
        size = len(table.gaps) + value_bytes * len(table.values)
        assert size <= outputs * (1 + inputs * value_bytes)
        fillers = sum(gap == LONGEST for gap in table.gaps)
        assert size <= outputs + (int(matrix.count_nonzero()) + fillers) * (1 + value_bytes)


@pytest.mark.parametrize(
    ("index", "gaps"),
    [(0, [0]), (252, [252]), (253, [253]), (254, [253, 1]), (506, [253, 253]), (507, [253, 253, 1])],
)
def test_a_gap_that_no_byte_holds_is_split(index, gaps):
    matrix = torch.zeros(1, 600)
    matrix[0, index] = 2.0
    table = code_rows(matrix, 4)
    assert table.gaps == [*gaps, END]
    assert table.values == [0.0] * (len(gaps) - 1) + [2.0]


def test_an_empty_row_is_one_byte_and_a_full_one_has_no_gaps():
    table = code_rows(torch.tensor([[0.0, 0, 0], [1, 2, 3], [0, 4, 0]]), 4)
    assert table.gaps == [END, DENSE, 1, END]
    assert table.values == [1, 2, 3, 4]
