"""What a compact file says before the values of its tensors: which there are, which are one, and their shapes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pyro_vd.compress.adaptive_bits import Coder, code_natural
from pyro_vd.compress.coding import Note
from pyro_vd.compress.resize import check_shapes, largest_shapes
from pyro_vd.compress.tensor_model import to_bytes
from pyro_vd.errors import CheckpointError

__all__ = ["Layout", "checksum", "fingerprint", "read_layout", "write_layout"]


@dataclass(frozen=True)
class Layout:
    """The tensors of a network.

    Attributes:
        sources: name -> the first name of the same tensor, in the order of the file.
        shapes: first name -> shape.
    """

    sources: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def write_layout(coder: Coder, net: nn.Module) -> Layout:
    """Codes the layout of ``net``, and returns it."""
    kept = net.state_dict(keep_vars=True)
    firsts: dict[int, str] = {}
    names = _code_names(coder, kept)
    sources = _code_sources(coder, {name: firsts.setdefault(id(kept[name]), name) for name in names})
    own = {name: tuple(kept[name].shape) for name in names if sources[name] == name}
    return Layout(sources, _code_shapes(coder, own))


def read_layout(coder: Coder, net: nn.Module, expected: int) -> Layout:
    """Reads the layout of a network like ``net``, or a smaller one.

    Args:
        expected: its fingerprint.

    Raises:
        CheckpointError: for the layout of another network.
    """
    own, largest = net.state_dict(), largest_shapes(net)
    names = _code_names(coder, own)
    unknown = [name for name in names if name not in largest]
    if unknown or fingerprint({name: largest[name] for name in names}) != expected:
        raise CheckpointError("of another network: its tensors have other names, types or numbers of axes")
    sources = _code_sources(coder, dict.fromkeys(names, ""))
    ndims = {name: (0,) * len(largest[name].shape) for name in names if sources[name] == name}
    shapes = _code_shapes(coder, ndims)
    notes = {name: Note(shapes[source], largest[name].dtype, None) for name, source in sources.items()}
    wrong = check_shapes(net, notes)
    if wrong:
        raise CheckpointError(f"of another network: {'; '.join(sorted(wrong))}")
    return Layout(sources, shapes)


def fingerprint(tensors: Mapping[str, Tensor | Note]) -> int:
    """16 bits of what shrinking does not change: names, types and numbers of axes."""
    text = ";".join(f"{name} {tensor.dtype} {len(tensor.shape)}" for name, tensor in tensors.items())
    return zlib.crc32(text.encode()) & 0xFFFF


def checksum(tensors: Iterable[Tensor]) -> int:
    """16 bits of the bytes of the tensors."""
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(to_bytes(tensor).tobytes(), crc)
    return crc & 0xFFFF


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
