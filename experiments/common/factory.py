"""Networks of the user: built by a factory that is given by name, and filled from a file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.files import read_file

__all__ = ["build", "import_factory", "load_weights"]

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit; a number in the file has at most eight bytes


def import_factory(name: str) -> Callable[[], nn.Module]:
    """Imports the function that ``package.module:function`` names.

    Raises:
        UserError: for a malformed name, a module that cannot be imported, or an attribute that is missing or not
            callable.
    """
    module_name, colon, function_name = name.partition(":")
    if not colon or not function_name:
        raise UserError(f"--factory {name!r}: written package.module:function")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, SyntaxError, ValueError, TypeError) as error:  # the last two for names such as '.a'
        raise UserError(f"--factory {name!r}: {error}; is it importable from here?") from None
    except AttributeError:
        raise UserError(f"--factory {name!r}: {module_name} has no {function_name}") from None
    if not callable(function):
        raise UserError(f"--factory {name!r}: {function_name} is {type(function).__name__}, not a function")
    return function


def build(make: Callable[[], nn.Module], name: str) -> nn.Module:
    """Calls the factory and returns its network.

    Args:
        make: the factory.
        name: of the factory, for messages.

    Raises:
        UserError: if it requires arguments or does not return an ``nn.Module``.
    """
    try:
        net = make()
    except TypeError as error:
        raise UserError(f"--factory {name!r}: {error}; it is called without arguments") from None
    if not isinstance(net, nn.Module):
        raise UserError(f"--factory {name!r}: returned {type(net).__name__}, not an nn.Module")
    return net


def load_weights(net: nn.Module, path: Path) -> None:
    """Loads a state_dict from a safetensors file.

    Raises:
        CheckpointError: for a file that cannot be read, is a pickle, is damaged, or has missing, unexpected or
            differently shaped tensors, which the message names; the network is then unchanged.
    """
    try:
        content = read_file(path, MAX_HEADER_BYTES + 8 * sum(tensor.numel() for tensor in net.state_dict().values()))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        given = safetensors.torch.load(content)
    except SafetensorError as error:
        if content[:1] in (b"\x80", b"P"):  # a safetensors file may begin like that too
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
