"""Writes a compressed network for other programs: as ONNX, for torch.export, or as safetensors with a JSON file.

The first two run the exported program and the network on the CPU and compare their outputs before they write the file.
If the outputs differ, no file is written. The exported programs are for the CPU.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pyro_vd.compress.copies import copy_network
from pyro_vd.compress.gather import ONNXRUNTIME_GATHER_COST, PYTORCH_GATHER_COST, widen
from pyro_vd.compress.layers import LAYERS, architecture
from pyro_vd.compress.rounding import ROUNDING_FACTOR, outputs_in_float64
from pyro_vd.compress.storage import to_safetensors_bytes
from pyro_vd.errors import UserError
from pyro_vd.files import write_atomically, write_together

__all__ = ["to_onnx", "to_safetensors", "to_torch_export"]

TOLERANCE = 1e-5  # of the largest logit; more if the network's own rounding error is larger


def to_onnx(net: nn.Module, inputs: Tensor, path: str | Path) -> None:
    """Writes ``net`` in eval mode as ONNX, for any batch size, after running it in onnxruntime.

    The model's input is called ``x``, its output ``logits``. A :class:`SelectedLinear` is written as a linear layer
    with zeros if that is faster (see :mod:`pyro_vd.compress.gather`).

    Args:
        net: the network.
        inputs: a batch of at least two inputs, for tracing and for the check.
        path: the file.

    Raises:
        UserError: if layers are empty and the outputs are constant, naming them; if the onnx packages are missing; if
            the network cannot be traced or onnxruntime cannot run it; if its outputs differ from the network's in
            float64 by more than 1e-5 of the largest output and by more than 8 times the network's own rounding error.
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    inputs = inputs.cpu()
    net = _copy_for_export(net, inputs)
    widen(net, inputs, ONNXRUNTIME_GATHER_COST)
    onnxruntime = _import_optional("onnxruntime")
    _import_optional("onnxscript")
    with _refuse_errors("ONNX"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program: Any = torch.onnx.export(
            net,
            (inputs,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=["x"],
            output_names=["logits"],
            verbose=False,
        )
        content = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _check_same(net, inputs, lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), "onnxruntime")
    write_atomically(Path(path), content)


def to_torch_export(net: nn.Module, inputs: Tensor, path: str | Path) -> None:
    """Writes ``net`` in eval mode as a ``.pt2`` file, for any batch size; ``torch.export.load`` reads it.

    Args:
        net: the network.
        inputs: a batch of at least two inputs, for tracing and for the check.
        path: the file.

    Raises:
        UserError: if layers are empty and the outputs are constant, naming them; if the network cannot be traced, or
            the exported program's outputs differ.
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    inputs = inputs.cpu()
    net = _copy_for_export(net, inputs)
    widen(net, inputs, PYTORCH_GATHER_COST)
    with _refuse_errors("torch.export"):
        program = torch.export.export(net, (inputs,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    _check_same(net, inputs, program.module(), "torch.export")
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(Path(path), buffer.getvalue())


def to_safetensors(net: nn.Module, path: str | Path) -> None:
    """Writes the network's parameters and buffers, dense, as a safetensors file with a JSON file beside it.

    The JSON file, ``path`` + ".json", holds the sizes of the layers, the names of the empty ones, and the SHA-256 of
    the tensor file. It is replaced last: if its digest is not that of the tensor file, writing was interrupted between
    the two. :func:`pyro_vd.compress.save` writes fewer bytes, and its files can be loaded into a network.

    Args:
        net: the network.
        path: the tensor file.

    Raises:
        OSError: if the files cannot be written; if the disk is full, files that were there are untouched.
    """
    path = Path(path)
    sizes = {name: {"inputs": inputs, "outputs": outputs} for name, (inputs, outputs) in architecture(net).items()}
    content = to_safetensors_bytes(net)
    digest = hashlib.sha256(content).hexdigest()
    about = {"network": type(net).__name__, "layers": sizes, "empty": _empty_layers(net), "sha256": digest}
    write_together({path: content, path.with_name(path.name + ".json"): json.dumps(about).encode()})


@torch.no_grad()
def _copy_for_export(net: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy in eval mode on the CPU; a GPU may multiply in TF32, which differs by more than the check allows.

    A network with an empty layer is refused only if its outputs are constant: a residual network may lose a block.
    """
    if len(inputs) < 2:
        raise UserError("export: needs at least two inputs to make a program for any batch size")
    net = copy_network(net, "export").cpu().eval()
    outputs = net(inputs)
    if _empty_layers(net) and bool((outputs == outputs[:1]).all()):
        raise UserError(
            f"export: nothing is left of {', '.join(_empty_layers(net))}; prune less: choose a higher threshold, or if "
            "training has pruned it already, a lower weight of the KL"
        )
    return net


@contextmanager
def _refuse_errors(what: str) -> Iterator[None]:
    """Turns any error of an exporter into a UserError of one line that names the exporter."""
    try:
        yield
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"export: {what} cannot write this network: {first}") from error


def _empty_layers(net: nn.Module) -> list[str]:
    return [n for n, layer in net.named_modules() if isinstance(layer, LAYERS) and not bool(layer.weight.any())]


def _import_optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"export: ONNX needs {name}; pip install 'pyro-vd[onnx]'") from None


@torch.no_grad()
def _check_same(net: nn.Module, inputs: Tensor, run: Callable[[Tensor], Tensor], what: str) -> None:
    """Compares the outputs of ``run`` with the network's.

    The network is run in float64 if possible, because its rounding error in float32 may be above the tolerance.
    """
    rounding = torch.zeros((), dtype=torch.float64)
    for batch in (inputs, inputs[:1]):
        own = net(batch.clone()).double()
        exact = outputs_in_float64(net, batch)
        exact = own if exact is None else exact
        rounding = torch.maximum(rounding, (own - exact).abs().max())  # on one example it may be small by chance
        largest = exact.abs().max().clamp(min=1e-30)
        difference = (run(batch).double() - exact).abs().max()
        if not bool(difference <= torch.maximum(TOLERANCE * largest, ROUNDING_FACTOR * rounding)):
            raise UserError(
                f"export: outputs of {what} differ by {difference / largest:.1e} of the largest; nothing is written"
            )
