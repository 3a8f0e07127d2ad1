"""Writes a network as one C source file and its header, without dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pyro_vd.compress.c.emit import emit
from pyro_vd.compress.c.graph import read_graph
from pyro_vd.compress.c.names import check_names
from pyro_vd.compress.c.values import ValuesName, values_of
from pyro_vd.compress.copies import copy_network
from pyro_vd.compress.export import check_same, copy_for_export, measure_error
from pyro_vd.errors import UserError
from pyro_vd.files import write_together

__all__ = ["CExport", "to_c"]


@dataclass(frozen=True)
class CExport:
    """What :func:`to_c` wrote.

    Attributes:
        table_bytes: bytes of the constants: weights, gaps, biases and sizes. The code takes more.
        scratch_bytes: bytes of the memory that the caller gives to the function.
        error: largest difference from the outputs of the float32 network on the given inputs, as a share of the
            largest output.
    """

    table_bytes: int
    scratch_bytes: int
    error: float


@torch.no_grad()
def to_c(
    net: nn.Module,
    inputs: Tensor,
    path: str | Path,
    *,
    prefix: str = "network",
    values: ValuesName = "float32",
) -> CExport:
    """Writes ``net`` in eval mode as a C99 source file at ``path``, and its header beside it.

    The function ``<prefix>_run(input, output, scratch)`` computes the outputs for one input. It needs no library but
    C's own ``math``, allocates no memory, and writes to its arguments only. Weights that are 0 take no time, and almost
    no bytes: a weight is stored with the gap between its input and the one before, in one byte
    (:mod:`pyro_vd.compress.c.tables`). Batch normalization becomes a part of the layer before it. The header says how
    to call the function, and how to run the self test that the source contains.

    Args:
        net: the network.
        inputs: a batch of at least two inputs, for tracing and for the check. The first one becomes the self test.
        path: the source file, whose name ends in ``.c``; the header's ends in ``.h``.
        prefix: first part of all names that the header declares.
        values: type of the stored weights. ``int8`` has one scale for each layer, at which its largest weight is
            +-127; the sums are float32. Biases are always float32.

    Returns:
        The sizes and the rounding error.

    Raises:
        UserError: for a layer or an operation that has no form in C, naming it; for a name that C does not allow; if
            the network does not run on the inputs, or its outputs are constant; if the steps that were read give other
            outputs than the network; for weights beyond the range of float16; if the error is 1 or more.
        TypeError: for inputs that are not one tensor, and for what is not a network.
        OSError: if the files cannot be written; files that were there are untouched.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:  # 23 parameters of 4 bytes, and the ends of 5 rows
        ...     to_c(net, torch.randn(8, 4), f"{folder}/network.c").table_bytes
        97
    """
    path = Path(path)
    check_names(path, prefix)
    stored = values_of(values)
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"to_c: inputs must be one tensor, not {type(inputs).__name__}; the function in C has one input"
        )
    if not inputs.is_floating_point():
        raise UserError(f"to_c: inputs are {inputs.dtype}; only networks that read float32 have a form in C")
    inputs = inputs.cpu().float()
    net = copy_for_export(copy_network(net, "to_c").float(), inputs)
    graph = read_graph(net, inputs)
    check_same(net, (inputs, inputs[:1]), lambda given: [graph.run(given)], "the steps that were read")
    graph = graph.rounded(stored)
    error = measure_error(net, inputs, lambda given: [graph.run(given)], f"with weights in {values}")
    files = emit(graph, inputs[:1], stored, type(net).__name__, path.stem, prefix)
    write_together({path: files.source.encode(), path.with_suffix(".h"): files.header.encode()})
    return CExport(files.table_bytes, 4 * files.scratch, error)
