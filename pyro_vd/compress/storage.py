"""A compressed network in a file: exact, small, and without a pickle.

``save`` writes all parameters and buffers without rounding; only the sign of a zero is lost. Each tensor gets the
shortest of the lossless codings (see :mod:`pyro_vd.compress.coding`), and a tied tensor is written once. The file is a
safetensors file in an xz container with checksums; any xz and any safetensors reader opens it. A compact file (see
:mod:`pyro_vd.compress.compact`) is smaller, and only this library reads it.
"""

from __future__ import annotations

import errno
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyro_vd.compress import compact
from pyro_vd.compress.coding import Note, decode, encode, most_bytes, read_note, read_step_size
from pyro_vd.compress.copies import copy_network
from pyro_vd.compress.resize import check_shapes, check_values, largest_shapes, load_resized
from pyro_vd.decompress import XZ_MAGIC, decompress
from pyro_vd.errors import CheckpointError, UserError
from pyro_vd.files import read_file, write_atomically

__all__ = ["compress_xz", "compressed_bytes", "dense_bytes", "load", "save", "to_safetensors_bytes"]

FORMATS = (1, 2)  # the second one has tied tensors
HEADER_KEY = "pyro_vd"
TIED_TO_KEY = "same"  # in the note of a tied tensor: the name of the tensor that is stored
FileFormat = Literal["safetensors", "compact"]


def save(
    net: nn.Module,
    path: str | Path,
    step_sizes: Mapping[str, float] | None = None,
    format: FileFormat = "safetensors",
) -> int:
    """Writes the network's parameters and buffers to ``path``; returns the size of the file in bytes.

    Args:
        net: the network.
        path: the file.
        step_sizes: weight -> step size, for weights on a grid (see :func:`pyro_vd.compress.quantize`).
        format: "safetensors", in an xz container, or "compact", which is the smallest and needs the extra
            ``[coding]``. A compact file is small if all parameters are on a grid, see
            :func:`pyro_vd.compress.choose_step_sizes`. Writing and reading one take about 10 seconds for a million
            weights in rows and columns that are left.

    Raises:
        TypeError: for what is not a network.
        UserError: for a weight that is not on the grid of its step size, a step size that is not above 0 and finite,
            a step size of an unknown weight, or an entry of the state that is not a dense tensor, naming it; for an
            unknown format.
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    content = _pack(net, step_sizes or {}, format)
    write_atomically(Path(path), content)
    return len(content)


def compressed_bytes(
    net: nn.Module, step_sizes: Mapping[str, float] | None = None, format: FileFormat = "safetensors"
) -> int:
    """Size in bytes of the file that :func:`save` would write.

    Raises:
        UserError: as :func:`save`.
    """
    return len(_pack(net, step_sizes or {}, format))


@torch.no_grad()
def _pack(net: nn.Module, step_sizes: Mapping[str, float], file_format: str) -> bytes:
    _check_network(net, "save")
    if not isinstance(step_sizes, Mapping):
        raise UserError(f"the step sizes are a {type(step_sizes).__name__}; give a dict, name -> step size")
    unknown = step_sizes.keys() - net.state_dict().keys()
    if unknown:
        raise UserError(f"step sizes of weights that the network does not have: {', '.join(sorted(map(str, unknown)))}")
    writers = {"safetensors": _pack_safetensors, "compact": compact.pack}
    if not isinstance(file_format, str) or file_format not in writers:
        raise UserError(f"format={file_format!r}: the formats are {' and '.join(writers)}")
    steps = {name: read_step_size(f"{name!r}: the step size", step) for name, step in step_sizes.items()}
    return writers[file_format](net, steps)


def _check_network(net: nn.Module, caller: str) -> None:
    """Refuses what is no network, and a network of which a file cannot hold everything, naming the first tensor."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"{caller}: net must be an nn.Module, not {type(net).__name__}")
    for name, value in net.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            raise UserError(f"{caller}: {name!r} is a {type(value).__name__}, and files have tensors only")
        if is_lazy(value):
            raise UserError(f"{caller}: {name!r} has no shape yet; call the network once")
        if value.is_meta or value.layout != torch.strided:
            kind = "on the meta device" if value.is_meta else f"stored as {value.layout}"
            raise UserError(f"{caller}: {name!r} is {kind}; files have dense tensors only")


def _pack_safetensors(net: nn.Module, step_sizes: Mapping[str, float]) -> bytes:
    arrays: dict[str, Tensor] = {}
    notes: dict[str, object] = {}
    for name, *others in _tied_names(net):
        step_size = next((step_sizes[one] for one in (name, *others) if one in step_sizes), None)
        coded = encode(name, net.state_dict()[name].detach().cpu(), step_size)
        arrays |= {f"{name}{suffix}": array.contiguous().clone() for suffix, array in coded.arrays.items()}
        notes |= {name: coded.note} | {other: {TIED_TO_KEY: name} for other in others}
    file_format = FORMATS[len(notes) > len(_tied_names(net))]  # the lowest that can hold the network
    header = {HEADER_KEY: json.dumps({"format": file_format, "tensors": notes})}
    return compress_xz(safetensors.torch.save(arrays, metadata=header))


@torch.no_grad()
def load(path: str | Path, net: nn.Module) -> nn.Module:
    """The saved network in eval mode, made from a copy of ``net``. Parameters that are tied in ``net`` are tied.

    Layers take the sizes in the file, so a shrunk network needs no code of its own. No layer may be larger than in
    ``net``, which also bounds the memory that reading takes.

    Args:
        path: the file.
        net: a network of the class that was saved, with any weights; it is untouched.

    Raises:
        CheckpointError: for a file that is damaged, a pickle, of a newer format, or of another network, naming what
            differs; for NaN and infinite numbers where ``net`` has none.
        TypeError: for what is not a network.
        UserError: for a network that cannot be copied, or with an entry of the state that is not a dense tensor.
    """
    path = Path(path)
    _check_network(net, "load")
    content = _read_content(path, _largest_file(net))
    tensors = _unpack_compact(path, content, net) if content.startswith(compact.MAGIC) else _unpack(path, content, net)
    own = net.state_dict()
    device = next(iter(own.values())).device if own else torch.device("cpu")
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    _refuse_mismatches(path, check_values(net, tensors))
    loaded = copy_network(net, "load")
    try:
        with torch.random.fork_rng(devices=[]):
            load_resized(loaded, tensors)
    except RuntimeError as error:  # from the network's own load_state_dict
        raise CheckpointError(f"{path}: of another network: {' '.join(str(error).split())}") from None
    return loaded.eval()


def _unpack_compact(path: Path, content: bytes, net: nn.Module) -> dict[str, Tensor]:
    try:
        return compact.unpack(content, net)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _unpack(path: Path, packed: bytes, net: nn.Module) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    arrays, header = _read_arrays(path, packed, net)
    try:
        notes = {name: read_note(note) for name, note in header.items() if TIED_TO_KEY not in note}
        sources = {name: note.get(TIED_TO_KEY, name) for name, note in header.items()}
        stored = {name: notes[source] for name, source in sources.items()}
        _refuse_mismatches(path, check_shapes(net, stored))
        decoded = {name: _decode(name, note, arrays) for name, note in notes.items()}
        if arrays:
            raise ValueError(f"arrays of no tensor: {', '.join(arrays)}")
    except CheckpointError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _not_a_network(path) from None
    return {name: decoded[source] for name, source in sources.items()}


def to_safetensors_bytes(net: nn.Module) -> bytes:
    """The network's parameters and buffers as an ordinary safetensors file; a tied tensor is there once per name."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in net.state_dict().items()}
    return safetensors.torch.save(state)


def compress_xz(content: bytes) -> bytes:
    """``content`` in an xz container, compressed as far as xz can."""
    return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)


def dense_bytes(net: nn.Module) -> int:
    """Size in bytes of the network as an ordinary safetensors file: the reference of compression ratios."""
    return len(to_safetensors_bytes(net))


def _tied_names(net: nn.Module) -> list[list[str]]:
    """The names of every parameter and buffer, grouped by tensor."""
    names: dict[int, list[str]] = {}
    for name, tensor in net.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return list(names.values())


def _refuse_mismatches(path: Path, wrong: list[str]) -> None:
    if wrong:
        raise CheckpointError(f"{path}: of another network: {'; '.join(sorted(wrong))}")


def _not_a_network(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: an xz file, but not of a compressed network of pyro_vd")


def _decode(name: str, note: Note, arrays: dict[str, Tensor]) -> Tensor:
    return decode(note, arrays.pop(f"{name}.values"), arrays.pop(f"{name}.gaps", None))


def _read_arrays(path: Path, packed: bytes, net: nn.Module) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """The arrays of the file, and by tensor its note in the header."""
    content = _decompress(path, packed, _largest_file(net))
    try:
        arrays = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        body = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][HEADER_KEY])
        file_format, header = body["format"], body.get("tensors")
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _not_a_network(path) from None
    if file_format not in FORMATS:
        raise CheckpointError(f"{path}: format {file_format}, this version reads {max(FORMATS)}; update pyro_vd")
    if not isinstance(header, dict) or not all(isinstance(note, dict) for note in header.values()):
        raise _not_a_network(path)
    return arrays, header


def _read_content(path: Path, limit: int) -> bytes:
    try:
        return read_file(path, limit)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def _decompress(path: Path, packed: bytes, limit: int) -> bytes:
    """The decompressed content of the file, at most ``limit`` bytes."""
    try:
        if packed.startswith(XZ_MAGIC):
            return decompress(packed, limit)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise CheckpointError(
                f"{path}: unpacks to more than the {limit:,} bytes that this network could need"
            ) from None
    raise CheckpointError(f"{path}: not a compressed network of pyro_vd, or truncated or altered")


def _largest_file(net: nn.Module) -> int:
    """Bytes that no file of this network or of a smaller one exceeds, before and after decompression.

    Each tensor needs its data and a few hundred bytes of header. In the header, a character of its name may take seven
    bytes, and the name is there up to four times.
    """
    shapes = largest_shapes(net)
    tensors = sum(most_bytes(note.shape, note.dtype) for note in shapes.values())
    return 2**16 + tensors + tensors // 1000 + sum(1024 + 28 * len(name) for name in shapes)
