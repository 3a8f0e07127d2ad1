"""A compressed network on disk: exact, in few bytes, without a pickle.

``save`` writes what the network holds, nothing rounded (the sign of a zero goes): of the codings that lose nothing each
tensor gets the shortest.
Zeros are skipped by gaps (one byte a weight: how many zeros come before it; Han et al. 2016 code them so), values are
float32, float16 where that is the same number, or integers where the weights lie on a grid. The tensors are a
safetensors file in an xz container, which checks itself: any xz and any safetensors reader opens it.
"""

from __future__ import annotations

import copy
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pyro_vd.compress.channels import LAYERS, NORMS, is_depthwise
from pyro_vd.compress.selected import SelectedLinear
from pyro_vd.compress.shrink import set_sizes
from pyro_vd.errors import CheckpointError
from pyro_vd.files import write_atomically

__all__ = ["as_safetensors", "as_xz", "dense_bytes", "load", "save"]

FORMAT = 1
HEADER = "pyro_vd"
SKIP = 255  # a byte that skips as many zeros and has no weight behind them
INTEGERS = (torch.int8, torch.int16, torch.int32)


class Coded(NamedTuple):
    """One tensor as it is stored: arrays by suffix, and what a reader has to know."""

    arrays: dict[str, Tensor]
    note: dict[str, object]

    @property
    def bytes(self) -> int:
        return sum(array.numel() * array.element_size() for array in self.arrays.values())


@torch.no_grad()
def save(net: nn.Module, path: str | Path, steps: Mapping[str, float] | None = None) -> int:
    """Writes the network's parameters and buffers to ``path``; returns the file's size in bytes.

    Args:
        steps: weight -> cell width, for weights on a grid (see :func:`pyro_vd.compress.quantise`).

    Raises:
        ValueError: for a weight that is not on the grid of its step, and a step of no weight, naming it.
        OSError: when the disk refuses; a file that was there is untouched.
    """
    steps = steps or {}
    unknown = steps.keys() - net.state_dict().keys()
    if unknown:
        raise ValueError(f"steps of what the network does not have: {', '.join(sorted(unknown))}")
    arrays: dict[str, Tensor] = {}
    notes: dict[str, object] = {}
    for name, tensor in net.state_dict().items():
        coded = _shortest(name, tensor.detach().cpu(), steps.get(name))
        arrays |= {f"{name}{suffix}": array.contiguous().clone() for suffix, array in coded.arrays.items()}
        notes[name] = coded.note
    header = {HEADER: json.dumps({"format": FORMAT, "tensors": notes})}
    content = as_xz(safetensors.torch.save(arrays, metadata=header))
    write_atomically(Path(path), content)
    return len(content)


@torch.no_grad()
def load(path: str | Path, net: nn.Module) -> nn.Module:
    """The saved network, made from a copy of ``net``, a network of the class that was saved, whatever its weights.

    Layers take the sizes of the file, so that a shrunk network needs no code of its own.

    Raises:
        CheckpointError: for a file that is damaged, a pickle, of a newer format, or of another network, naming what
            differs.
    """
    path = Path(path)
    own = net.state_dict()
    device = next(iter(own.values())).device if own else torch.device("cpu")
    tensors = {name: tensor.to(device) for name, tensor in _decoded(path).items()}
    _check_names(path, net, own, tensors)
    filled = copy.deepcopy(net)
    with torch.random.fork_rng(devices=[]):
        for name, module in list(filled.named_modules()):
            if _resizable(module):
                _resize(filled, name, module, tensors)
    try:
        filled.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: of another network: {' '.join(str(error).split())}") from None
    return filled


def as_safetensors(net: nn.Module) -> bytes:
    """The network's parameters and buffers as an ordinary safetensors file; tied ones as often as they have names."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}
    return safetensors.torch.save(state)


def as_xz(content: bytes) -> bytes:
    """Packed as small as xz can."""
    return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)


def dense_bytes(net: nn.Module) -> int:
    """Size of that file: what ratios are ratios to."""
    return len(as_safetensors(net))


def _shortest(name: str, tensor: Tensor, step: float | None) -> Coded:
    flat = tensor.flatten()
    dense = _coded(name, tensor, flat, step)
    if not tensor.is_floating_point():
        return dense
    index = flat.nonzero().flatten()
    sparse = _coded(name, tensor, flat[index], step)
    sparse.arrays[".gaps"] = torch.from_numpy(_gaps(index.numpy()))
    return min(dense, sparse, key=lambda coded: coded.bytes)


def _coded(name: str, tensor: Tensor, values: Tensor, step: float | None) -> Coded:
    note: dict[str, object] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    if step is not None:
        return Coded({".values": _integers(name, values, step)}, {**note, "step": step})
    half = values.half() if values.is_floating_point() else values
    exact = bool((half.to(values.dtype) == values).all())
    return Coded({".values": half if exact else values}, note)


def _integers(name: str, values: Tensor, step: float) -> Tensor:
    cells = (values / step).round()
    if not bool((cells * step == values).all()):
        raise ValueError(f"{name!r} is not on the grid of step {step:g}; compress.quantise puts it there")
    largest = cells.abs().max().item() if len(cells) else 0.0
    if largest > torch.iinfo(torch.int32).max:
        raise ValueError(f"{name!r}: a step of {step:g} makes integers beyond 32 bits; a wider one is meant")
    return cells.to(next(dtype for dtype in INTEGERS if largest <= torch.iinfo(dtype).max))


def _gaps(index: np.ndarray) -> np.ndarray:
    """Zeros before each index as bytes."""
    zeros = np.diff(index, prepend=-1) - 1
    skips = zeros // SKIP
    gaps = np.full(len(index) + int(skips.sum()), SKIP, dtype=np.uint8)
    gaps[np.arange(len(index)) + np.cumsum(skips)] = zeros % SKIP
    return gaps


def _indices(gaps: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_gaps`."""
    ends = np.cumsum(np.where(gaps == SKIP, SKIP, gaps.astype(np.int64) + 1))
    return ends[gaps != SKIP] - 1


def _decoded(path: Path) -> dict[str, Tensor]:
    try:
        content = lzma.decompress(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (lzma.LZMAError, EOFError):
        raise CheckpointError(f"{path}: not a compressed network of pyro_vd, or truncated or altered") from None
    try:
        arrays = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        body = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][HEADER])
        if body["format"] != FORMAT:
            raise CheckpointError(f"{path}: format {body['format']}, this version reads {FORMAT}; update pyro_vd")
        return {name: _tensor(name, note, arrays) for name, note in body["tensors"].items()}
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, RuntimeError, AttributeError):
        raise CheckpointError(f"{path}: an xz file, but not of a compressed network of pyro_vd") from None


def _tensor(name: str, note: dict, arrays: dict[str, Tensor]) -> Tensor:
    values = arrays[f"{name}.values"]
    dtype = getattr(torch, note["dtype"])
    values = values.to(dtype) * note["step"] if "step" in note else values.to(dtype)
    if f"{name}.gaps" in arrays:
        flat = torch.zeros(torch.Size(note["shape"]).numel(), dtype=dtype)
        flat[torch.from_numpy(_indices(arrays[f"{name}.gaps"].numpy()))] = values
        values = flat
    return values.reshape(note["shape"])


def _resizable(module: nn.Module) -> bool:
    is_whole = getattr(module, "groups", 1) == 1
    return isinstance(module, NORMS) or (isinstance(module, LAYERS) and (is_whole or is_depthwise(module)))


def _check_names(path: Path, net: nn.Module, own: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    modules = dict(net.named_modules())
    wrong = [f"no {name}" for name in own.keys() - tensors.keys()]
    for name in tensors.keys() - own.keys():
        # A shrunk network may have biases that constants went into, and indices of selected inputs.
        owner, _, attribute = name.rpartition(".")
        if attribute not in ("bias", "selected") or not isinstance(modules.get(owner), LAYERS):
            wrong.append(f"unexpected {name}")
    for name in own.keys() & tensors.keys():
        mine, given = own[name], tensors[name]
        owner = name.rpartition(".")[0]
        alike = given.ndim == mine.ndim and given.shape[2:] == mine.shape[2:] and _resizable(modules[owner])
        if alike and given.ndim > 1 and is_depthwise(modules[owner]):
            alike = given.shape[1] == mine.shape[1]
        if not (given.shape == mine.shape or alike) or given.dtype != mine.dtype:
            wrong.append(f"{name} is {tuple(given.shape)} {given.dtype}, expected {tuple(mine.shape)} {mine.dtype}")
    if wrong:
        raise CheckpointError(f"{path}: of another network: {'; '.join(sorted(wrong))}")


def _resize(net: nn.Module, name: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    prefix = f"{name}." if name else ""
    keys = ("weight", "bias", "running_mean", "running_var")
    own = {key: tensors[prefix + key] for key in keys if prefix + key in tensors}
    trained = any(parameter.requires_grad for parameter in module.parameters())
    if isinstance(module, nn.Linear) and f"{prefix}selected" in tensors:
        module = SelectedLinear(tensors[f"{prefix}selected"], len(own["weight"]), "bias" in own).to(own["weight"])
        net.set_submodule(name, module)
    for key, value in own.items():
        if key.startswith("running"):
            module._buffers[key] = torch.empty_like(value)
        else:
            module._parameters[key] = nn.Parameter(torch.empty_like(value), requires_grad=trained)
    if isinstance(module, NORMS):
        module.num_features = len(own.get("running_mean", own.get("weight", ())))
    else:
        set_sizes(module)
