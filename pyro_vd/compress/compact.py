"""The content of a compact file: a header of 12 bytes, and all tensors of a network in one arithmetic code.

The network to load into knows the names and types of the tensors and the order of its layers, so the file has none of
them. Its shapes come first, and are checked before a tensor is made.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pyro_vd.compress.adaptive_bits import BitReader, BitWriter, Coder, code_natural
from pyro_vd.compress.coding import Note
from pyro_vd.compress.resize import check_shapes, largest_shapes
from pyro_vd.compress.tensor_model import code_tensor, column_positions, to_bytes
from pyro_vd.errors import CheckpointError

__all__ = ["MAGIC", "compact_bits", "pack", "unpack"]

MAGIC = b"pvd"
VERSION = 1
HEADER = struct.Struct("<3sBIHH")  # magic, version, CRC-32 of what follows, architecture, CRC of the tensors
CHECKED = 8  # bytes of the header that its CRC-32 does not cover


def pack(net: nn.Module, step_sizes: Mapping[str, float]) -> bytes:
    """The content of the file of ``net``.

    Args:
        step_sizes: parameter -> step size. The others are written byte by byte, which takes much more.

    Raises:
        UserError: for a parameter that is not on the grid of its step size, naming it; without constriction.
    """
    coder = BitWriter()
    tensors, check = _write(coder, net, step_sizes)
    rest = struct.pack("<HH", _fingerprint(tensors), check) + coder.finish()
    return MAGIC + struct.pack("<BI", VERSION, zlib.crc32(rest)) + rest


def compact_bits(net: nn.Module, step_sizes: Mapping[str, float]) -> float:
    """Bits that the models of the file assign to ``net``: its ideal size, without a header.

    Raises:
        UserError: as :func:`pack`.
    """
    coder = BitWriter()
    _write(coder, net, step_sizes)
    return coder.entropy


def unpack(content: bytes, net: nn.Module) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Args:
        net: a network of the class that was saved.

    Raises:
        CheckpointError: for content that is damaged, of another network or of a newer version. The message has no
            path.
        UserError: without constriction.
    """
    if len(content) < HEADER.size:
        raise CheckpointError("a compact file, but truncated")
    _, version, crc, fingerprint, check = HEADER.unpack_from(content)
    if version != VERSION:
        raise CheckpointError(f"a compact file of version {version}, this version reads {VERSION}; update pyro_vd")
    if zlib.crc32(content[CHECKED:]) != crc:
        raise CheckpointError("a compact file, but truncated or altered")
    try:
        tensors, found = _read(BitReader(content[HEADER.size :]), net, fingerprint)
    except (ValueError, LookupError, OverflowError, AssertionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError("a compact file, but its code is not that of a network") from None
    if found != check:
        raise CheckpointError("a compact file that does not decode to what was saved; another version of constriction?")
    return tensors


def _write(coder: Coder, net: nn.Module, step_sizes: Mapping[str, float]) -> tuple[dict[str, Tensor], int]:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    names = _code_names(coder, state)
    firsts: dict[int, str] = {}
    kept = net.state_dict(keep_vars=True)
    sources = _code_sources(coder, {name: firsts.setdefault(id(kept[name]), name) for name in names})
    steps = {sources[name]: step for name, step in step_sizes.items()}
    shapes = _code_shapes(coder, {name: tuple(state[name].shape) for name in names if sources[name] == name})
    coded = _code_tensors(coder, {name: state[name] for name in shapes}, steps)
    return {name: coded[source] for name, source in sources.items()}, _checksum(coded.values())


def _read(coder: Coder, net: nn.Module, fingerprint: int) -> tuple[dict[str, Tensor], int]:
    own, largest = net.state_dict(), largest_shapes(net)
    names = _code_names(coder, own)
    unknown = [name for name in names if name not in largest]
    if unknown or _fingerprint({name: largest[name] for name in names}) != fingerprint:
        raise CheckpointError("of another network: its tensors have other names, types or numbers of axes")
    sources = _code_sources(coder, dict.fromkeys(names, ""))
    ndims = {name: (0,) * len(largest[name].shape) for name in names if sources[name] == name}
    shapes = _code_shapes(coder, ndims)
    notes = {name: Note(shapes[source], largest[name].dtype, None) for name, source in sources.items()}
    wrong = check_shapes(net, notes)
    if wrong:
        raise CheckpointError(f"of another network: {'; '.join(sorted(wrong))}")
    empty = {name: torch.zeros(shape, dtype=largest[name].dtype) for name, shape in shapes.items()}
    coded = _code_tensors(coder, empty, {})
    return {name: coded[source] for name, source in sources.items()}, _checksum(coded.values())


def _code_names(coder: Coder, names: Iterable[str]) -> list[str]:
    """The names of the tensors in the order of the file; only those that shrinking may add are coded."""
    names, ordered = set(names), []
    added = {name: _optional_names(name) for name in names}
    for name in sorted(names.difference(*added.values())):
        for place, optional in enumerate(added[name]):
            if coder.bit(int(optional in names), ("there", place)):
                ordered.append(optional)
        ordered.append(name)
    return ordered


def _optional_names(name: str) -> list[str]:
    """What a layer with a weight of this name may have beside it."""
    prefix, _, leaf = name.rpartition("weight")
    return [f"{prefix}bias{leaf}", f"{prefix}selected{leaf}"] if "weight" in name.rpartition(".")[2] else []


def _code_sources(coder: Coder, sources: Mapping[str, str]) -> dict[str, str]:
    """Name -> the first name of the same tensor."""
    firsts: list[str] = []
    coded = {}
    for name, source in sources.items():
        is_tied = coder.bit(int(source in firsts), "tied")
        place = firsts.index(source) if source in firsts else 0
        if not is_tied:
            firsts.append(name)
        coded[name] = firsts[code_natural(coder, place, "tied to")] if is_tied else name
    return coded


def _code_shapes(coder: Coder, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    known: list[int] = []  # the last one first: neighboring layers have lengths in common
    return {name: tuple([_code_length(coder, length, known) for length in shape]) for name, shape in shapes.items()}


def _code_length(coder: Coder, length: int, known: list[int]) -> int:
    place = code_natural(coder, known.index(length) if length in known else len(known), "known length")
    coded = known.pop(place) if place < len(known) else code_natural(coder, length, "length")
    known.insert(0, coded)
    return coded


def _code_tensors(coder: Coder, tensors: Mapping[str, Tensor], steps: Mapping[str, float]) -> dict[str, Tensor]:
    """Codes tensors, and returns them. The indices of a layer come before its weight.

    Args:
        tensors: to read, zeros of their shapes and types.
        steps: of the tensors on a grid; to read, none.
    """
    coded: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        positions = column_positions(tensor, coded.get(f"{name.removesuffix('weight')}selected"))
        coded[name] = code_tensor(coder, name, tensor, steps.get(name), positions)
    return coded


def _fingerprint(tensors: Mapping[str, Tensor | Note]) -> int:
    """16 bits of what shrinking does not change: names, types and numbers of axes."""
    text = ";".join(f"{name} {tensor.dtype} {len(tensor.shape)}" for name, tensor in tensors.items())
    return zlib.crc32(text.encode()) & 0xFFFF


def _checksum(tensors: Iterable[Tensor]) -> int:
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(to_bytes(tensor).tobytes(), crc)
    return crc & 0xFFFF
