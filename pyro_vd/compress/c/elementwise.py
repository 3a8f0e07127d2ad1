"""Operations that make one number of one number, or of one number of each of two or three tensors, as C expressions.

To let :func:`pyro_vd.compress.to_c` write another one, add PyTorch's name of the operation to ``EXPRESSIONS``. In
braces stand the operation's arguments by their names in PyTorch. ``self`` is the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["EXPRESSIONS", "expression_of", "write_function"]

SOFTPLUS = "({self} > 20.0f ? {self} : log1pf(expf({self})))"

EXPRESSIONS = {
    "abs": "fabsf({self})",
    "add": "{self} + {alpha} * {other}",
    "celu": "{self} > 0.0f ? {self} : {alpha} * expm1f({self} / {alpha})",
    "clamp": "fminf(fmaxf({self}, {min}), {max})",
    "clamp_max": "fminf({self}, {max})",
    "clamp_min": "fmaxf({self}, {min})",
    "cos": "cosf({self})",
    "div": "{self} / {other}",
    "elu": "{scale} * ({self} > 0.0f ? {self} : {alpha} * expm1f({input_scale} * {self}))",
    "erf": "erff({self})",
    "exp": "expf({self})",
    "floor": "floorf({self})",
    "ge": "{self} >= {other} ? 1.0f : 0.0f",
    "gelu": "0.5f * {self} * (1.0f + erff(0.70710678f * {self}))",
    "gelu, tanh": "0.5f * {self} * (1.0f + tanhf(0.79788456f * ({self} + 0.044715f * {self} * {self} * {self})))",
    "gt": "{self} > {other} ? 1.0f : 0.0f",
    "hardsigmoid": "fminf(fmaxf({self} + 3.0f, 0.0f), 6.0f) / 6.0f",
    "hardswish": "{self} * fminf(fmaxf({self} + 3.0f, 0.0f), 6.0f) / 6.0f",
    "hardtanh": "fminf(fmaxf({self}, {min_val}), {max_val})",
    "le": "{self} <= {other} ? 1.0f : 0.0f",
    "leaky_relu": "{self} > 0.0f ? {self} : {negative_slope} * {self}",
    "log": "logf({self})",
    "log1p": "log1pf({self})",
    "log_sigmoid": "fminf({self}, 0.0f) - log1pf(expf(-fabsf({self})))",
    "lt": "{self} < {other} ? 1.0f : 0.0f",
    "maximum": "fmaxf({self}, {other})",
    "minimum": "fminf({self}, {other})",
    "mish": f"{{self}} * tanhf({SOFTPLUS})",
    "mul": "{self} * {other}",
    "neg": "-{self}",
    "pow": "powf({self}, {exponent})",
    "reciprocal": "1.0f / {self}",
    "relu": "{self} < 0.0f ? 0.0f : {self}",
    "relu6": "fminf(fmaxf({self}, 0.0f), 6.0f)",
    "round": "rintf({self})",
    "rsqrt": "1.0f / sqrtf({self})",
    "rsub": "{other} - {alpha} * {self}",
    "selu": "1.05070099f * ({self} > 0.0f ? {self} : 1.67326324f * expm1f({self}))",
    "sigmoid": "1.0f / (1.0f + expf(-{self}))",
    "sign": "(float)({self} > 0.0f) - (float)({self} < 0.0f)",
    "silu": "{self} / (1.0f + expf(-{self}))",
    "sin": "sinf({self})",
    "softplus": "{self} * {beta} > {threshold} ? {self} : log1pf(expf({self} * {beta})) / {beta}",
    "sqrt": "sqrtf({self})",
    "square": "{self} * {self}",
    "sub": "{self} - {alpha} * {other}",
    "tanh": "tanhf({self})",
    "threshold": "{self} > {threshold} ? {self} : {value}",
    "where": "{condition} != 0.0f ? {self} : {other}",
}


def expression_of(operation: str, arguments: Mapping[str, object]) -> str | None:
    """The template of an operation with these arguments; None if there is none."""
    if operation == "gelu" and arguments["approximate"] == "tanh":
        return EXPRESSIONS["gelu, tanh"]
    if operation == "clamp" and arguments["min"] is None:
        return EXPRESSIONS["clamp_max"]
    if operation == "clamp" and arguments["max"] is None:
        return EXPRESSIONS["clamp_min"]
    if (operation == "div" and arguments.get("rounding_mode")) or (operation == "round" and arguments.get("decimals")):
        return None
    template = EXPRESSIONS.get(operation)
    return template.replace("{alpha} * ", "") if template and arguments.get("alpha") == 1 else template


def write_function(name: str, expression: str, tensors: Sequence[str]) -> str:
    """A C function that computes the expression for each element of the tensors."""
    parameters = ", ".join(f"const float *{tensor}s" for tensor in tensors)
    elements = "\n".join(f"        const float {tensor} = {tensor}s[i];" for tensor in tensors)
    return (
        f"static void {name}(int size, {parameters}, float *result) {{\n"
        f"    for (int i = 0; i < size; i++) {{\n{elements}\n        result[i] = {expression};\n    }}\n}}\n"
    )
