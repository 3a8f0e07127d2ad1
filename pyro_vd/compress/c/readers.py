"""Which step each of PyTorch's operations becomes, in one table: ``READERS``.

To let :func:`pyro_vd.compress.to_c` write another operation, add PyTorch's name of it to the table, with a function
that makes its step; an operation that works element by element is a line in
:mod:`pyro_vd.compress.c.elementwise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyro_vd.compress.c.calls import Call, Result, Selection
from pyro_vd.compress.c.elementwise import expression_of
from pyro_vd.compress.c.layers import Convolution, Linear
from pyro_vd.compress.c.steps import Affine, Concatenation, Elementwise, Pool, PReLU, Softmax, Step, Window
from pyro_vd.compress.c.values import literal

__all__ = ["ALIASES", "COMPARISONS", "READERS", "read_call"]

LETTERS = "abc"  # names of the elements in a C function


def read_linear(call: Call) -> Step:
    given, weight = call.arguments["input"], _constant(call, "weight")
    result = given.result if isinstance(given, Selection) else given
    if len(result.shape) != 1:
        raise call.refuse(f"reads {result.shape} numbers of an example", "flatten them before the layer")
    if isinstance(given, Selection):
        weight = torch.zeros(len(weight), *result.shape).index_add_(1, given.selected, weight)
    return Linear(**call.place | {"reads": (result.name,)}, weight=weight, bias=_constant(call, "bias"))


def read_convolution(call: Call) -> Step:
    weight = _constant(call, "weight")
    axes = weight.ndim - 2
    padding, dilation, kernel = call.arguments["padding"], call.arguments["dilation"], weight.shape[2:]
    dilation = _spread(dilation, axes)
    if padding == "same":
        padding = [step * (size - 1) // 2 for step, size in zip(dilation, kernel, strict=True)]
    padding = [0] if padding == "valid" else padding
    window = _window(call, kernel, call.arguments["stride"], padding, dilation)
    weight = weight.unsqueeze(2) if axes == 1 else weight
    return Convolution(**call.place, weight=weight, bias=_constant(call, "bias"), window=window,
                       groups=call.arguments["groups"])  # fmt: skip


def read_pool(call: Call) -> Step:
    kernel = call.arguments["kernel_size"]
    window = _window(
        call, kernel, call.arguments["stride"] or kernel, call.arguments["padding"], call.arguments.get("dilation", [1])
    )
    if "dilation" in call.arguments:
        return Pool(**call.common, window=window, average=False)
    include, divisor = call.arguments["count_include_pad"], call.arguments.get("divisor_override") or 0
    return Pool(**call.common, window=window, average=True, include_padding=include, divisor=divisor)


def read_adaptive_pool(call: Call) -> Step:
    given = call.results[0].shape
    pairs = list(zip(given[1:], call.shape[1:], strict=True))
    if len(given) < 2 or any(size % made for size, made in pairs):
        raise call.refuse(f"pools {given} to {call.shape}", "choose an output size that divides the size of the images")
    kernel = [size // made for size, made in pairs]
    return Pool(**call.common, window=_window(call, kernel, kernel, [0], [1]), average="avg" in call.operation)


def read_reduction(call: Call) -> Step:
    """A mean or a maximum over all positions of images."""
    given, axes = call.results[0].shape, call.arguments["dim"]
    axes = sorted(axis % (len(given) + 1) for axis in ([axes] if isinstance(axes, int) else axes or ()))
    if len(given) not in (2, 3) or axes != list(range(2, len(given) + 1)):
        raise call.refuse(f"reduces axes {axes} of {len(given) + 1}", "reduce all axes of positions")
    window = _window(call, given[1:], given[1:], [0], [1], made=[1] * len(axes))
    return Pool(**call.common, window=window, average=call.operation == "mean")


def read_batch_norm(call: Call) -> Step:
    mean, variance = _constant(call, "running_mean"), _constant(call, "running_var")
    weight, bias = _constant(call, "weight"), _constant(call, "bias")
    scale = (variance.double() + call.arguments["eps"]).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return Affine(**call.common, scale=scale.float(), shift=shift.float())


def read_prelu(call: Call) -> Step:
    return PReLU(**call.common, slopes=_constant(call, "weight"))


def read_softmax(call: Call) -> Step:
    axis = call.arguments["dim"] % (len(call.shape) + 1) - 1
    if axis < 0:
        raise call.refuse("is a softmax over the examples of a batch")
    return Softmax(**call.common, axis=axis, log="log" in call.operation)


def read_concatenation(call: Call) -> Step:
    if call.arguments["dim"] % (len(call.shape) + 1) != 1 or len(call.results) != len(call.arguments["tensors"]):
        raise call.refuse("concatenates constants, or along another axis than 1", "concatenate channels, on axis 1")
    sizes = tuple(torch.Size(result.shape).numel() for result in call.results)
    return Concatenation(**call.common, sizes=sizes)


def read_selection(call: Call) -> Selection:
    result, index = call.arguments["self"], call.arguments["index"]
    if call.arguments["dim"] % (len(result.shape) + 1) != len(result.shape) or not isinstance(index, Tensor):
        raise call.refuse("selects along another axis than the last one")
    return Selection(result, index)


def read_elementwise(call: Call) -> Step:
    """An expression, or, if an argument is a constant tensor, a scale and a shift."""
    if any(isinstance(value, Tensor) and value.ndim for value in call.arguments.values()):
        return _read_affine(call)
    expression = expression_of(call.operation, call.arguments)
    if expression is None or any(result.shape != call.shape for result in call.results):
        raise call.refuse("has no form in C with these arguments" if expression is None else
                          f"combines shapes {', '.join(str(result.shape) for result in call.results)}")  # fmt: skip
    letters = iter(LETTERS)
    names = {
        key: next(letters) if isinstance(value, Result) else literal(float(value))
        for key, value in call.arguments.items()
        if isinstance(value, Result | int | float | Tensor)
    }
    tensors = tuple(LETTERS[: len(call.results)])
    return Elementwise(**call.common, operation=call.operation, expression=expression.format(**names), tensors=tensors)


def _read_affine(call: Call) -> Step:
    """A sum, a difference or a product with a constant tensor, or the quotient by one."""
    if len(call.results) != 1 or call.results[0].shape != call.shape:
        raise call.refuse("combines a constant tensor with a tensor of another shape")
    constant, alpha = _broadcast_constant(call), call.arguments.get("alpha", 1)
    one, is_second = torch.ones_like(constant), isinstance(call.arguments["self"], Result)
    forms = {
        ("add", True): (one, alpha * constant),
        ("add", False): (alpha * one, constant),
        ("sub", True): (one, -alpha * constant),
        ("sub", False): (-alpha * one, constant),
        ("mul", True): (constant, 0 * one),
        ("mul", False): (constant, 0 * one),
        ("div", True): (1 / constant, 0 * one),
    }
    form = forms.get((call.operation, is_second))
    if form is None or call.arguments.get("rounding_mode"):
        raise call.refuse("has no form in C with a constant tensor")
    scale, shift = _by_channel(*form)
    return Affine(**call.common, scale=scale, shift=shift)


def _broadcast_constant(call: Call) -> Tensor:
    """The constant among the arguments, for each number of an example, in float64."""
    constant = next(value for value in call.arguments.values() if isinstance(value, Tensor))
    if constant.ndim > len(call.shape) and len(constant) > 1:
        raise call.refuse("combines the examples of a batch with a constant for each")
    return constant.double().broadcast_to(1, *call.shape)[0]


def _by_channel(scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel if positions have the same, else of each element."""
    both = torch.stack([scale, shift]).float()
    by_channel = both.flatten(2)[..., 0] if both.ndim > 2 else both
    if both.ndim > 2 and bool((both.flatten(2) == by_channel[..., None]).all()):
        both = by_channel
    return both[0].flatten(), both[1].flatten()


def _constant(call: Call, name: str) -> Any:
    value = call.arguments[name]
    if isinstance(value, Result | Selection):
        raise call.refuse(f"has a {name} that depends on the input", "use a constant one")
    return value


def _window(
    call: Call,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    made: Sequence[int] | None = None,
) -> Window:
    """The window of an operation on images, or on sequences, which are images of one row."""
    channels, *given = call.results[0].shape
    axes, made = len(given), made or call.shape[1:]
    if axes not in (1, 2) or len(kernel) > axes:
        raise call.refuse(f"reads {call.results[0].shape} numbers of an example", "use images or sequences")
    parts = [_spread(part, axes) for part in (given, made, kernel, stride, padding, dilation)]
    if axes == 1:
        parts = [[single, *part] for single, part in zip((1, 1, 1, 1, 0, 1), parts, strict=True)]
    return Window(channels, *(tuple(part) for part in parts))  # type: ignore[arg-type]


def _spread(numbers: Sequence[int], axes: int) -> list[int]:
    """One number for each axis."""
    return list(numbers) * axes if len(numbers) == 1 else list(numbers)


READERS: dict[str, Callable[[Call], Step | Selection]] = {
    "_native_batch_norm_legit_no_training": read_batch_norm,
    "adaptive_avg_pool1d": read_adaptive_pool,
    "adaptive_avg_pool2d": read_adaptive_pool,
    "adaptive_max_pool1d": read_adaptive_pool,
    "adaptive_max_pool2d": read_adaptive_pool,
    "amax": read_reduction,
    "avg_pool1d": read_pool,
    "avg_pool2d": read_pool,
    "cat": read_concatenation,
    "conv1d": read_convolution,
    "conv2d": read_convolution,
    "index_select": read_selection,
    "linear": read_linear,
    "log_softmax": read_softmax,
    "max_pool1d": read_pool,
    "max_pool2d": read_pool,
    "max_pool2d_with_indices": read_pool,
    "mean": read_reduction,
    "prelu": read_prelu,
    "softmax": read_softmax,
}
ALIASES = (
    "_unsafe_view", "alias", "clone", "contiguous", "detach", "dropout", "flatten", "lift_fresh_copy", "reshape",
    "squeeze", "unflatten", "unsqueeze", "view",
)  # fmt: skip
"""Operations that leave the numbers of an example where they are."""
CONVERSIONS = ("to", "_to_copy")  # to float32
COMPARISONS = ("ge", "gt", "le", "lt")  # their results are 1 and 0


def read_call(call: Call) -> Step | Selection | Result:
    """The step of a call, or what it gives without one.

    Raises:
        UserError: for an operation that is in no table, or with arguments that have no form in C.
    """
    if any(isinstance(value, Selection) for value in call.arguments.values()) and call.operation != "linear":
        raise call.refuse("reads selected entries", "only a linear layer may follow index_select")
    if call.operation in (*ALIASES, *CONVERSIONS):
        return replace(call.results[0], shape=call.shape)
    reader = READERS.get(call.operation)
    if reader is None and expression_of(call.operation, call.arguments) is None:
        raise call.refuse("has no form in C")
    return (reader or read_elementwise)(call)
