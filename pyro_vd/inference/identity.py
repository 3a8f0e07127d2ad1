"""What a module computes, as text: types, plain settings and code. Two runs of the same network have the same text."""

from __future__ import annotations

import functools
import hashlib
import re
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

__all__ = ["describe", "describe_modules", "without_code"]

DEPTH = 4  # of nested objects
LONGEST = 1000  # characters of a module's settings, which may be a vocabulary; the rest is a digest
PACKAGES = ("torch", "torchvision", "pyro", "pyro_vd", "builtins")  # their versions stand for their code


def describe_modules(root: nn.Module) -> dict[str, str]:
    """Name -> type and settings of every module in ``root``; ``root`` itself has the empty name.

    Settings are the values of attributes without a leading underscore, other than parameters, buffers and modules. The
    code of methods and of hooks before ``forward`` is included if it is the user's. Training mode is not.
    """
    return {name: _describe_module(module) for name, module in root.named_modules() if type(module) is not nn.Module}


def describe(value: Any, depth: int = DEPTH) -> str:
    """A value as text that is the same in every process.

    Numbers and words are written as they are, tensors as a digest. Functions have their name, code, defaults, and the
    globals and closure that they read; objects have their type and attributes.
    """
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return repr(value)
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, Tensor | np.ndarray):
        return _describe_array(value)
    if isinstance(value, torch.dtype | torch.Size | Enum | slice | range):
        return str(value)
    if isinstance(value, type | types.BuiltinFunctionType):
        return _qualified_name(value)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if depth == 0:
        return type(value).__name__
    inside = functools.partial(describe, depth=depth - 1)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{inside(key)}: {inside(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inside, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(inside, value)))}}}"
    if isinstance(value, types.FunctionType):
        return _describe_function(value, inside)
    if isinstance(value, types.MethodType):
        return f"{inside(value.__func__)} of {inside(value.__self__)}"
    if isinstance(value, functools.partial):
        return f"partial({', '.join(map(inside, (value.func, value.args, value.keywords)))})"
    return _describe_object(value, inside)


def without_code(description: str) -> str:
    """The description without digests of code, which another version of Python compiles to other instructions."""
    return re.sub(r"code [0-9a-f]{8}", "code", description)


def _describe_module(module: nn.Module) -> str:
    plain = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and not isinstance(value, nn.Module | torch.device)
    }
    settings = [f"{name}={describe(value, 2)}" for name, value in plain.items()]
    for kind in type(module).__mro__:
        if not _is_of_a_package(kind):
            methods = (value for value in vars(kind).values() if isinstance(value, types.FunctionType))
            settings += [describe(method, 2) for method in methods]
    settings += [f"hook {describe(hook, 2)}" for hook in module._forward_pre_hooks.values()]
    text = ", ".join(settings)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}... {hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"{_qualified_name(type(module))}({text})"


def _describe_object(value: Any, inside: Callable[[Any], str]) -> str:
    if isinstance(value, nn.Module):  # its parameters are in the checkpoint
        return "; ".join(describe_modules(value).values())
    attributes = {
        name: item
        for name, item in getattr(value, "__dict__", {}).items()
        if not name.startswith("_") or isinstance(value, Distribution)
    }
    settings = [f"{name}={inside(item)}" for name, item in sorted(attributes.items())]
    call = vars(type(value)).get("__call__")
    if call is not None and not _is_of_a_package(type(value)):
        settings.append(inside(call))
    return f"{_qualified_name(type(value))}({', '.join(settings)})"


def _describe_function(function: types.FunctionType, inside: Callable[[Any], str]) -> str:
    if _is_of_a_package(function):
        around: dict[str, Any] = {}
        code = ""
    else:
        around = {name: function.__globals__[name] for name in function.__code__.co_names if _is_plain(function, name)}
        code = f" (code {hashlib.sha256(_code(function.__code__).encode()).hexdigest()[:8]})"
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        around[name] = _read_cell(cell)
    if function.__defaults__ or function.__kwdefaults__:
        around["defaults"] = [function.__defaults__, function.__kwdefaults__]
    settings = ", ".join(f"{name}={inside(value)}" for name, value in around.items())
    return f"{_qualified_name(function)}{code}" + (f" with {settings}" if settings else "")


def _code(code: types.CodeType) -> str:
    """Instructions, constants and names; neither line numbers nor paths."""
    constants = [_code(part) if isinstance(part, types.CodeType) else describe(part) for part in code.co_consts]
    return repr((code.co_code.hex(), constants, code.co_names))


def _read_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet, in a class that is being made
        return None


def _is_plain(function: types.FunctionType, name: str) -> bool:
    """Whether this global of the function is described. Modules and classes are not: their names are in the code."""
    kinds = (bool, int, float, complex, str, tuple, Tensor, np.generic, types.FunctionType, Distribution)
    value = function.__globals__.get(name)
    return isinstance(value, kinds) and value is not function


def _describe_array(value: Tensor | np.ndarray) -> str:
    kind = f"{tuple(value.shape)} {value.dtype}"
    if isinstance(value, nn.Parameter):
        return f"parameter of {kind}"
    if isinstance(value, Tensor):
        if value.device.type == "meta" or value.layout != torch.strided:
            return kind
        value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    elif value.dtype.hasobject:
        return kind
    return f"{kind} {hashlib.sha256(value.tobytes()).hexdigest()[:8]}"


def _is_of_a_package(what: type | types.FunctionType) -> bool:
    return what.__module__.partition(".")[0] in PACKAGES


def _qualified_name(what: Any) -> str:
    return f"{what.__module__}.{what.__qualname__}"
