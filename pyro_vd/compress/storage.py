"""A compressed network on disk: exact, in few bytes, without a pickle.

``save`` writes what the network holds, nothing rounded (the sign of a zero goes): of the codings that lose nothing each
tensor gets the shortest (see :mod:`pyro_vd.compress.coding`), and a tied one is written once. The tensors are a
safetensors file in an xz container, which checks itself: any xz and any safetensors reader opens it.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pyro_vd.compress.coding import Note, decode, encode, most_bytes, read_note
from pyro_vd.compress.copies import copy_of
from pyro_vd.compress.filling import fill, largest_shapes, wrong_values, wrong_with
from pyro_vd.errors import CheckpointError
from pyro_vd.files import read_file, write_atomically

__all__ = ["as_safetensors", "as_xz", "dense_bytes", "load", "save"]

FORMATS = (1, 2)  # the second has tied tensors
HEADER = "pyro_vd"
SAME = "same"  # the note of a tied tensor: the name of the one that is stored
DECODER_MEMORY = 2**27  # bytes; the densest preset of xz needs 65 MiB


@torch.no_grad()
def save(net: nn.Module, path: str | Path, steps: Mapping[str, float] | None = None) -> int:
    """Writes the network's parameters and buffers to ``path``; returns the file's size in bytes.

    Args:
        steps: weight -> cell width, for weights on a grid (see :func:`pyro_vd.compress.quantize`).

    Raises:
        ValueError: for a weight that is not on the grid of its step, a step that is not above 0 and finite, and a step
            of no weight, naming it.
        OSError: when the disk refuses; a file that was there is untouched.
    """
    steps = steps or {}
    unknown = steps.keys() - net.state_dict().keys()
    if unknown:
        raise ValueError(f"steps of what the network does not have: {', '.join(sorted(unknown))}")
    arrays: dict[str, Tensor] = {}
    notes: dict[str, object] = {}
    for name, *others in _tied(net):
        step = next((steps[one] for one in (name, *others) if one in steps), None)
        coded = encode(name, net.state_dict()[name].detach().cpu(), step)
        arrays |= {f"{name}{suffix}": array.contiguous().clone() for suffix, array in coded.arrays.items()}
        notes |= {name: coded.note} | {other: {SAME: name} for other in others}
    written = FORMATS[len(notes) > len(_tied(net))]  # the lowest that reads it
    header = {HEADER: json.dumps({"format": written, "tensors": notes})}
    content = as_xz(safetensors.torch.save(arrays, metadata=header))
    write_atomically(Path(path), content)
    return len(content)


@torch.no_grad()
def load(path: str | Path, net: nn.Module) -> nn.Module:
    """The saved network in eval mode, made from a copy of ``net``, a network of the class that was saved, whatever its
    weights; what ``net`` ties is tied.

    Layers take the sizes of the file, so that a shrunk network needs no code of its own; none may be larger than in
    ``net``, which also bounds the memory that reading takes.

    Raises:
        CheckpointError: for a file that is damaged, a pickle, of a newer format, or of another network, naming what
            differs; for NaN and infinite numbers where ``net`` has none.
        UserError: for a network that cannot be copied (see :func:`pyro_vd.compress.copies.copy_of`).
    """
    path = Path(path)
    own = net.state_dict()
    arrays, header = _unpacked(path, net)
    try:
        notes = {name: read_note(note) for name, note in header.items() if SAME not in note}
        sources = {name: note.get(SAME, name) for name, note in header.items()}
        stored = {name: notes[source] for name, source in sources.items()}
        _refuse(path, wrong_with(net, stored))
        decoded = {name: _decoded(name, note, arrays) for name, note in notes.items()}
        if arrays:
            raise ValueError(f"arrays of no tensor: {', '.join(arrays)}")
    except CheckpointError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _no_network(path) from None
    device = next(iter(own.values())).device if own else torch.device("cpu")
    tensors = {name: decoded[source].to(device) for name, source in sources.items()}
    _refuse(path, wrong_values(net, tensors))
    filled = copy_of(net, "load")
    try:
        with torch.random.fork_rng(devices=[]):
            fill(filled, tensors)
    except RuntimeError as error:  # of the network's own way to load
        raise CheckpointError(f"{path}: of another network: {' '.join(str(error).split())}") from None
    return filled.eval()


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


def _tied(net: nn.Module) -> list[list[str]]:
    """The names of every parameter and buffer, those of one tensor together."""
    names: dict[int, list[str]] = {}
    for name, tensor in net.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return list(names.values())


def _refuse(path: Path, wrong: list[str]) -> None:
    if wrong:
        raise CheckpointError(f"{path}: of another network: {'; '.join(sorted(wrong))}")


def _no_network(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: an xz file, but not of a compressed network of pyro_vd")


def _decoded(name: str, note: Note, arrays: dict[str, Tensor]) -> Tensor:
    return decode(note, arrays.pop(f"{name}.values"), arrays.pop(f"{name}.gaps", None))


def _unpacked(path: Path, net: nn.Module) -> tuple[dict[str, Tensor], dict[str, dict]]:
    """The arrays of the file, and by tensor what its header says."""
    content = _content(path, _largest_file(net))
    try:
        arrays = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        body = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][HEADER])
        written, header = body["format"], body.get("tensors")
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _no_network(path) from None
    if written not in FORMATS:
        raise CheckpointError(f"{path}: format {written}, this version reads {max(FORMATS)}; update pyro_vd")
    if not isinstance(header, dict) or not all(isinstance(note, dict) for note in header.values()):
        raise _no_network(path)
    return arrays, header


def _content(path: Path, limit: int) -> bytes:
    """What the file unpacks to, at most ``limit`` bytes."""
    try:
        packed = read_file(path, limit)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECODER_MEMORY)
    try:
        content = decoder.decompress(packed, max_length=limit + 1)
    except (lzma.LZMAError, EOFError):
        content = None
    if content is not None and len(content) > limit:
        raise CheckpointError(f"{path}: unpacks to more than the {limit:,} bytes that this network could need")
    if content is None or not decoder.eof or decoder.unused_data:
        raise CheckpointError(f"{path}: not a compressed network of pyro_vd, or truncated or altered")
    return content


def _largest_file(net: nn.Module) -> int:
    """Bytes that no file of this network or of a smaller one has, before and after packing: its tensors, and for each a
    few hundred of header, where one character of a name may take seven and stands there up to four times."""
    shapes = largest_shapes(net)
    tensors = sum(most_bytes(note.shape, note.dtype) for note in shapes.values())
    return 2**16 + tensors + tensors // 1000 + sum(1024 + 28 * len(name) for name in shapes)
