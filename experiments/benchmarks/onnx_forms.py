"""A network in onnxruntime: in float32, with weights in int8, and with weights and activations in int8."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from pyro_vd import compress
from pyro_vd.experiments.benchmarks.forms import Form

__all__ = ["to_dynamic_int8", "to_onnxruntime", "to_onnxruntime_as_is", "to_static_int8"]


def to_onnxruntime(net: nn.Module, threads: int, macs: int, images: Tensor) -> Form:
    """The network in float32."""
    return _form(partial(compress.to_onnx, net, images), threads, macs)


def to_onnxruntime_as_is(net: nn.Module, threads: int, inputs: Tensor) -> Callable[[Tensor], Tensor]:
    """The network layer by layer, without the changes that :func:`compress.to_onnx` makes for speed."""
    program = torch.onnx.export(
        net.eval(), (inputs,), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False
    )
    return _run(program.model_proto.SerializeToString(), threads)  # type: ignore[union-attr]


def to_dynamic_int8(net: nn.Module, threads: int, macs: int, images: Tensor) -> Form:
    """Weights in int8; the scale of the activations is computed for every batch."""
    return _form(partial(compress.to_onnx_int8, net, images), threads, macs)


def to_static_int8(net: nn.Module, threads: int, macs: int, images: Tensor) -> Form:
    """Weights and activations in int8; the scale of the activations is that of ``images``."""
    return _form(partial(compress.to_onnx_int8, net, images, activations=True), threads, macs)


def _form(write: Callable[..., object], threads: int, macs: int) -> Form:
    """The form of the file that ``write(path=...)`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write(path=path)
        return Form(_run(path.read_bytes(), threads), path.stat().st_size, macs)


def _run(content: bytes, threads: int) -> Callable[[Tensor], Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would slow the turns of other columns.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])
