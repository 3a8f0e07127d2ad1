"""Writes a network as ONNX with 8-bit integers in place of float32: its weights, or its weights and activations.

onnxruntime quantizes the file of :func:`pyro_vd.compress.to_onnx`. Each weight has one scale and no offset, so weights
that are exactly 0 stay exactly 0.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from pyro_vd.compress.export import import_optional, load_onnx, measure_error, onnx_content, refuse_errors
from pyro_vd.compress.onnx_names import Axes, in_order, named_inputs
from pyro_vd.errors import UserError
from pyro_vd.files import write_atomically
from pyro_vd.pytree import Tree, split

__all__ = ["to_onnx_int8"]

CALIBRATION_BATCH = 64
WEIGHTED = ("Conv", "ConvTranspose", "Einsum", "Gather", "Gemm", "GRU", "LSTM", "MatMul")
ONLY = {"ConvTranspose": True, "LSTM": False}  # operators that have an int8 form for this value of activations alone


def to_onnx_int8(
    net: nn.Module,
    inputs: Tree,
    path: str | Path,
    activations: bool = False,
    axes: Axes | None = None,
) -> float:
    """Writes ``net`` in eval mode as ONNX with int8 weights, and int8 activations if wanted; returns the error.

    The names in the file are those of :func:`to_onnx`. By default, activations are stored in float32. Each layer rounds
    its input to 8 bits on the fly, with a scale that is computed from the whole batch: the outputs of one input depend
    slightly on the other inputs. With ``activations=True``, the scales are those of ``inputs``, and are in the file.

    Args:
        net: the network.
        inputs: a batch of at least two inputs, for tracing and for the returned error. With ``activations=True``, the
            scales are the ranges of the activations on these inputs: take some hundred of the training set.
        path: the file.
        activations: whether activations are in int8, too.
        axes: further axes of the input that may have any size, each with its name, as in :func:`to_onnx`.

    Returns:
        The largest difference between outputs of the file and of the float32 network on ``inputs``, as a share of the
        largest output.

    Raises:
        UserError: as :func:`to_onnx`; if onnxruntime has no int8 form of an operator with weights, naming it; if
            nothing in the network can be quantized; if the error is 1 or more, or not finite: outputs of 0 would be
            nearer.
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    inputs = in_order(net, inputs)
    content = onnx_content(net, inputs, axes or {})
    with tempfile.TemporaryDirectory() as folder, refuse_errors("onnxruntime in int8"):
        content = _quantize(content, _Batches(net, inputs) if activations else None, Path(folder))
        run = load_onnx(content)
    _check_weights(content, activations)
    error = measure_error(net, inputs, lambda given: run(named_inputs(net, given)), "in int8")
    write_atomically(Path(path), content)
    return error


def _quantize(content: bytes, batches: _Batches | None, folder: Path) -> bytes:
    """The content with int8 weights, and int8 activations if there are batches to calibrate with."""
    quantization = import_optional("onnxruntime.quantization")
    given, prepared, quantized = (folder / f"{name}.onnx" for name in ("given", "prepared", "quantized"))
    given.write_bytes(content)
    quantization.quant_pre_process(given, prepared, skip_symbolic_shape=True)
    int8 = quantization.QuantType.QInt8
    if batches is None:
        quantization.quantize_dynamic(prepared, quantized, weight_type=int8)
    else:
        quantization.quantize_static(prepared, quantized, batches, weight_type=int8)
    return quantized.read_bytes()


class _Batches:
    """A CalibrationDataReader of onnxruntime."""

    def __init__(self, net: nn.Module, inputs: Tree):
        self._batches = (named_inputs(net, batch) for batch in split(inputs, CALIBRATION_BATCH))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {name: value.numpy() for name, value in batch.items()}


def _check_weights(content: bytes, activations: bool) -> None:
    """Refuses a file that holds the weights of a layer in float32, or no weights at all."""
    onnx = import_optional("onnx")
    graph = onnx.load_from_string(content).graph
    matrices = {one.name: one.data_type for one in graph.initializer if len(one.dims) > 1}
    floats = {name for name, kind in matrices.items() if kind == onnx.TensorProto.FLOAT}
    left = {node.op_type for node in graph.node if node.op_type in WEIGHTED and floats & set(node.input)}
    if left:
        has_other = all(ONLY.get(name) == (not activations) for name in left)
        other = f"choose activations={not activations}, or " if has_other else ""
        raise UserError(
            f"export: onnxruntime has no int8 form of {', '.join(sorted(left))} with activations={activations}; "
            f"{other}write float32 with to_onnx"
        )
    if not {onnx.TensorProto.INT8, onnx.TensorProto.UINT8} & set(matrices.values()):
        raise UserError("export: the network has no weights that onnxruntime can quantize; write float32 with to_onnx")
