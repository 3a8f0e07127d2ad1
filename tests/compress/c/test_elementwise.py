"""Expressions of C: which one an operation has, and how its function is written."""

import re

import pytest

from pyro_vd.compress.c.elementwise import EXPRESSIONS, expression_of, write_function


@pytest.mark.parametrize(
    ("operation", "arguments", "expression"),
    [
        ("relu", {}, "{self} < 0.0f ? 0.0f : {self}"),
        ("add", {"alpha": 1}, "{self} + {other}"),
        ("add", {"alpha": 2}, "{self} + {alpha} * {other}"),
        ("clamp", {"min": None, "max": 2}, "fminf({self}, {max})"),
        ("clamp", {"min": 1, "max": None}, "fmaxf({self}, {min})"),
        ("gelu", {"approximate": "tanh"}, EXPRESSIONS["gelu, tanh"]),
        ("gelu", {"approximate": "none"}, EXPRESSIONS["gelu"]),
        ("div", {"rounding_mode": "floor"}, None),
        ("div", {}, "{self} / {other}"),
        ("round", {"decimals": 0}, "rintf({self})"),
        ("round", {"decimals": 2}, None),
        ("sort", {}, None),
    ],
)
def test_an_operation_has_the_expression_of_its_arguments(operation, arguments, expression):
    assert expression_of(operation, arguments) == expression


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_every_number_is_a_float(expression):
    """A double in an expression would be slow on a microcontroller, and round differently from PyTorch."""
    assert not re.search(r"(?<![\w.])\d+(\.\d+)?(?![\w.])", expression)
    assert not re.search(r"\b(exp|log|tanh|fabs|sqrt|pow|sin|cos|erf|fmin|fmax)\(", expression)


def test_a_function_reads_one_number_of_each_tensor():
    assert write_function("apply_add", "a + b", ["a", "b"]).splitlines() == [
        "static void apply_add(int size, const float *as, const float *bs, float *result) {",
        "    for (int i = 0; i < size; i++) {",
        "        const float a = as[i];",
        "        const float b = bs[i];",
        "        result[i] = a + b;",
        "    }",
        "}",
    ]
