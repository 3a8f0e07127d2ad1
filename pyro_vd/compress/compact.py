"""The content of a compact file: a header of 12 bytes, and all tensors of a network in one arithmetic code.

The network to load into knows the names and types of the tensors and the order of its layers, so the file has none of
them. Its shapes come first, and are checked before a tensor is made.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_vd.compress.adaptive_bits import BitReader, BitWriter, Coder
from pyro_vd.compress.layout import Layout, checksum, fingerprint, read_layout, write_layout
from pyro_vd.compress.random_code.code import RandomCode, code_random, decode
from pyro_vd.compress.resize import largest_shapes
from pyro_vd.compress.tensor_model import code_tensor, column_positions
from pyro_vd.errors import CheckpointError

__all__ = ["MAGIC", "compact_bits", "pack", "unpack"]

MAGIC = b"pvd"
PLAIN, RANDOM = VERSIONS = (1, 2)  # the second one has tensors in a random code
HEADER = struct.Struct("<3sBIHH")  # magic, version, CRC-32 of what follows, architecture, CRC of the tensors
CHECKED = 8  # bytes of the header that its CRC-32 does not cover


def pack(net: nn.Module, step_sizes: Mapping[str, float], code: RandomCode | None = None) -> bytes:
    """The content of the file of ``net``.

    Args:
        step_sizes: parameter -> step size. The others are written byte by byte, which takes much more.
        code: of the tensors that it decodes to, which are not written in any other way.

    Raises:
        UserError: for a parameter that is not on the grid of its step size, naming it; without constriction.
    """
    coder = BitWriter()
    tensors, check = _write(coder, net, step_sizes, code)
    version = PLAIN if code is None else RANDOM
    rest = struct.pack("<HH", fingerprint(tensors), check) + coder.finish()
    return MAGIC + struct.pack("<BI", version, _crc(rest, version)) + rest


def compact_bits(net: nn.Module, step_sizes: Mapping[str, float]) -> float:
    """Bits that the models of the file assign to ``net``: its ideal size, without a header.

    Raises:
        UserError: as :func:`pack`.
    """
    coder = BitWriter()
    _write(coder, net, step_sizes, None)
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
    _, version, crc, expected, check = HEADER.unpack_from(content)
    if version not in VERSIONS:
        raise CheckpointError(f"a compact file of version {version}, this version reads {RANDOM}; update pyro_vd")
    if _crc(content[CHECKED:], version) != crc:
        raise CheckpointError("a compact file, but truncated or altered")
    try:
        tensors, found = _read(BitReader(content[HEADER.size :]), net, expected, version)
    except (ValueError, LookupError, OverflowError, AssertionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError("a compact file, but its code is not that of a network") from None
    if found != check:
        raise CheckpointError("a compact file that does not decode to what was saved; another version of constriction?")
    return tensors


def _crc(rest: bytes, version: int) -> int:
    """The checksum starts at the version, less one, and so covers it, too."""
    return zlib.crc32(rest, version - PLAIN)


def _write(
    coder: Coder, net: nn.Module, step_sizes: Mapping[str, float], code: RandomCode | None
) -> tuple[dict[str, Tensor], int]:
    layout, state = write_layout(coder, net), net.state_dict()
    tensors = {name: state[name].detach().cpu().contiguous() for name in layout.shapes}
    steps = {layout.sources[name]: step for name, step in step_sizes.items()}
    return _code(coder, layout, tensors, steps, code)


def _read(coder: Coder, net: nn.Module, expected: int, version: int) -> tuple[dict[str, Tensor], int]:
    layout, largest = read_layout(coder, net, expected), largest_shapes(net)
    empty = {name: torch.zeros(shape, dtype=largest[name].dtype) for name, shape in layout.shapes.items()}
    return _code(coder, layout, empty, {}, RandomCode() if version == RANDOM else None)


def _code(
    coder: Coder, layout: Layout, tensors: Mapping[str, Tensor], steps: Mapping[str, float], code: RandomCode | None
) -> tuple[dict[str, Tensor], int]:
    """Codes the tensors of a network; returns them by name, and their checksum."""
    random = {} if code is None else decode(code_random(coder, layout.shapes, code), layout.shapes)
    coded = {name: random[name].to(tensor.dtype) for name, tensor in tensors.items() if name in random}
    coded |= _code_tensors(coder, {name: tensor for name, tensor in tensors.items() if name not in random}, steps)
    ordered = {name: coded[name] for name in tensors}
    return {name: ordered[source] for name, source in layout.sources.items()}, checksum(ordered.values())


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
