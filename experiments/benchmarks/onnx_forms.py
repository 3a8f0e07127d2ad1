"""A network in onnxruntime: in float32, with weights in int8, and with weights and activations in int8."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)
from torch import Tensor, nn

from pyro_vd import compress
from pyro_vd.experiments.benchmarks.forms import Form

__all__ = ["to_dynamic_int8", "to_onnxruntime", "to_onnxruntime_as_is", "to_static_int8"]


def to_onnxruntime(net: nn.Module, threads: int, macs: int, images: Tensor) -> Form:
    """The network in float32."""
    with tempfile.TemporaryDirectory() as folder:
        return _form(_export(net, images, Path(folder)), threads, macs)


def to_onnxruntime_as_is(net: nn.Module, threads: int, inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """The network layer by layer, without the changes that :func:`compress.to_onnx` makes for speed."""
    program = torch.onnx.export(
        net.eval(), (inputs,), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False
    )
    return _run(program.model_proto.SerializeToString(), threads)  # type: ignore[union-attr]


def to_dynamic_int8(net: nn.Module, threads: int, macs: int, images: Tensor) -> Form:
    """Weights in int8; the scale of the activations is computed for every batch."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        quantized = Path(folder) / "int8.onnx"
        quantize_dynamic(_prepare(net, images, Path(folder)), quantized, weight_type=QuantType.QInt8)
        return _form(quantized, threads, macs)


def to_static_int8(net: nn.Module, threads: int, macs: int, images: Tensor) -> Form:
    """Weights and activations in int8; the scale of the activations is that of ``images``."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        quantized = Path(folder) / "int8.onnx"
        prepared = _prepare(net, images, Path(folder))
        quantize_static(prepared, quantized, _Batches(images), weight_type=QuantType.QInt8)
        return _form(quantized, threads, macs)


class _Batches(CalibrationDataReader):
    def __init__(self, images: Tensor):
        self._batches = iter(images.split(64))

    def get_next(self) -> dict | None:
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch.numpy()}


def _export(net: nn.Module, images: Tensor, folder: Path) -> Path:
    path = folder / "net.onnx"
    compress.to_onnx(net, images[:2], path)
    return path


def _prepare(net: nn.Module, images: Tensor, folder: Path) -> Path:
    prepared = folder / "prepared.onnx"
    quant_pre_process(_export(net, images, folder), prepared, skip_symbolic_shape=True)
    return prepared


def _form(path: Path, threads: int, macs: int) -> Form:
    return Form(_run(path.read_bytes(), threads), path.stat().st_size, macs)


def _run(content: bytes, threads: int) -> Callable[[Tensor], Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would slow the turns of other columns.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the quantizer's general advice."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
