"""Networks of the user: built by a factory that is given by name, and filled from a file."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.files import read_file

__all__ = ["build", "import_factory", "load_weights"]

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit; a number in the file has at most eight bytes
TORCH_MAGIC = (b"\x80", b"PK")  # of a pickle and of a zip archive, which torch.save writes
REFUSAL = "Weights only load failed"  # torch.load's, of anything but tensors


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
    """Loads a state_dict from a file of safetensors or of ``torch.save``. Runs no code from the file.

    Raises:
        CheckpointError: for a file that cannot be read, is damaged, holds other objects than tensors, or has missing,
            unexpected or differently shaped tensors, which the message names; the network is then unchanged.
    """
    try:
        content = read_file(path, MAX_HEADER_BYTES + 8 * sum(tensor.numel() for tensor in net.state_dict().values()))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    given = _read_tensors(content, path)
    wrong = _differences(net.state_dict(), given)
    if wrong:
        raise CheckpointError(f"{path}: of another network: {'; '.join(wrong)}")
    net.load_state_dict(given)


def _read_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        if not content.startswith(TORCH_MAGIC):  # a safetensors file may begin like that too
            raise CheckpointError(f"{path}: not a safetensors file, or truncated ({error})") from None
    try:
        given = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, for a file that is cut or altered
        if str(error).startswith(REFUSAL):
            raise CheckpointError(
                f"{path}: a pickle of other objects than tensors, which could run any code; save net.state_dict()"
            ) from None
        raise CheckpointError(f"{path}: not a file of torch.save, or damaged ({_first_line(error)})") from None
    if not isinstance(given, dict) or not all(isinstance(tensor, Tensor) for tensor in given.values()):
        held = f"a dict with {', '.join(map(str, given))}" if isinstance(given, dict) else type(given).__name__
        raise CheckpointError(f"{path}: holds {held[:80]}, not a state_dict; save net.state_dict()")
    return given


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _differences(own: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    lacking = [f"no {name}" for name in own.keys() - given.keys()]
    extra = [f"unexpected {name}" for name in given.keys() - own.keys()]
    other = [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own.keys() & given.keys()
        if own[name].shape != given[name].shape
    ]
    return sorted(lacking + extra + other)
