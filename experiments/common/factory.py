"""A network of the user's own: from the name of a factory, its weights from a file, images as it wants them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pyro_vd.data import DataSplits
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.files import read_file

__all__ = ["factory_of", "fill_from", "fitted", "made"]

HEADER = 100_000_000  # bytes that safetensors allows its header; a number in the file has eight at most


def factory_of(name: str) -> Callable[[], nn.Module]:
    """The function that ``package.module:function`` names.

    Raises:
        UserError: for another form, a module that cannot be imported, a name that is not there or cannot be called.
    """
    module_name, colon, function_name = name.partition(":")
    if not colon or not function_name:
        raise UserError(f"--factory {name!r}: written package.module:function")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, SyntaxError, ValueError, TypeError) as error:  # the last two of names such as '.a'
        raise UserError(f"--factory {name!r}: {error}; is it importable from here?") from None
    except AttributeError:
        raise UserError(f"--factory {name!r}: {module_name} has no {function_name}") from None
    if not callable(function):
        raise UserError(f"--factory {name!r}: {function_name} is {type(function).__name__}, not a function")
    return function


def made(make: Callable[[], nn.Module], name: str) -> nn.Module:
    """The network that the factory of that name makes.

    Raises:
        UserError: where it wants arguments, or gives something else.
    """
    try:
        net = make()
    except TypeError as error:
        raise UserError(f"--factory {name!r}: {error}; it is called without arguments") from None
    if not isinstance(net, nn.Module):
        raise UserError(f"--factory {name!r}: gave {type(net).__name__}, not an nn.Module")
    return net


def fill_from(net: nn.Module, path: Path) -> None:
    """Loads a state_dict from a safetensors file.

    Raises:
        CheckpointError: for a file that cannot be read, is a pickle or damaged, or has missing, extra or other tensors,
            naming them; the network is untouched.
    """
    try:
        content = read_file(path, HEADER + 8 * sum(tensor.numel() for tensor in net.state_dict().values()))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        given = safetensors.torch.load(content)
    except SafetensorError as error:
        if content[:1] in (b"\x80", b"P"):  # a file of safetensors may begin like that, too
            raise CheckpointError(
                f"{path}: a pickle or zip archive, which could run any code; save it as safetensors"
            ) from None
        raise CheckpointError(f"{path}: not a safetensors file, or truncated ({error})") from None
    wrong = _differences(net.state_dict(), given)
    if wrong:
        raise CheckpointError(f"{path}: of another network: {'; '.join(wrong)}")
    net.load_state_dict(given)


def _differences(own: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    lacking = [f"no {name}" for name in own.keys() - given.keys()]
    extra = [f"unexpected {name}" for name in given.keys() - own.keys()]
    other = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own.keys() & given.keys()
        if own[name].shape != given[name].shape
    ]
    return sorted(lacking + extra + other)


def fitted(split: DataSplits, net: nn.Module, size: int | None) -> DataSplits:
    """The dataset in the channels of the network's first convolution and in the size that was asked for."""
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    if convolutions:
        split = split.to_gray() if convolutions[0].in_channels == 1 else split.to_rgb()
    size = size or getattr(net, "input_shape", (None,))[-1]
    return split.resize(int(size)) if size else split
