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
from collections.abc import Callable, Iterable, Iterator, Mapping
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

__all__ = [
    "copy_for_export",
    "import_optional",
    "load_onnx",
    "onnx_content",
    "refuse_errors",
    "to_onnx",
    "to_safetensors",
    "to_torch_export",
]

INPUT, OUTPUT, BATCH = "input", "output", "batch"  # names in an ONNX file
TOLERANCE = 1e-5  # of the largest logit; more if the network's own rounding error is larger


def to_onnx(net: nn.Module, inputs: Tensor, path: str | Path, axes: Mapping[int, str] | None = None) -> None:
    """Writes ``net`` in eval mode as ONNX, for any batch size, after running it in onnxruntime.

    The model's input is called ``input``, its output ``output``, and their first axis ``batch``. A
    :class:`SelectedLinear` is written as a linear layer with zeros if that is faster (see
    :mod:`pyro_vd.compress.gather`).

    Args:
        net: the network.
        inputs: a batch of at least two inputs, for tracing and for the check.
        path: the file.
        axes: further axes of the input that may have any size, each with its name: ``{2: "height", 3: "width"}``. The
            check also runs with one position less along each.

    Raises:
        UserError: if layers are empty and the outputs are constant, naming them; if the onnx packages are missing; if
            the network does not run on the inputs, cannot be traced, or onnxruntime cannot run it; if it does not run
            with another size of one of the ``axes``, naming it; if its outputs differ from the network's in float64 by
            more than 1e-5 of the largest output and by more than 8 times the network's own rounding error.
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    write_atomically(Path(path), onnx_content(net, inputs, axes or {}))


def onnx_content(net: nn.Module, inputs: Tensor, axes: Mapping[int, str]) -> bytes:
    """The content of the file that :func:`to_onnx` writes, after the same checks."""
    inputs = inputs.cpu()
    _check_axes(inputs, axes)
    net = copy_for_export(net, inputs)
    widen(net, inputs, ONNXRUNTIME_GATHER_COST)
    batches = (inputs, inputs[:1], *_shorter_inputs(net, inputs, axes))
    for package in ("onnxruntime", "onnxscript"):
        import_optional(package)
    with refuse_errors("ONNX"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program: Any = torch.onnx.export(
            net,
            (inputs,),
            dynamo=True,
            dynamic_shapes=({0: BATCH, **axes},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        content: bytes = program.model_proto.SerializeToString()
        run = load_onnx(content)
    _check_same(net, batches, run, "onnxruntime")
    return content


def load_onnx(content: bytes) -> Callable[[Tensor], Tensor]:
    """The function of an ONNX file's content, on the CPU in onnxruntime."""
    session = import_optional("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {INPUT: x.numpy()})[0])


def _check_axes(inputs: Tensor, axes: Mapping[int, str]) -> None:
    for axis, name in axes.items():
        if axis not in range(1, inputs.ndim):
            raise UserError(f"export: axes={dict(axes)}: an axis must be from 1 to {inputs.ndim - 1}; 0 is the batch")
        if not str(name).isidentifier() or [BATCH, *axes.values()].count(name) > 1:
            raise UserError(f"export: axes={dict(axes)}: each axis needs a name of its own, of letters and digits")
        if inputs.shape[axis] < 2:
            raise UserError(
                f"export: axis {axis} ({name}) has {inputs.shape[axis]} position; inputs with two are needed"
            )


def _shorter_inputs(net: nn.Module, inputs: Tensor, axes: Mapping[int, str]) -> Iterator[Tensor]:
    """The inputs with one position less along each of the axes."""
    for axis, name in axes.items():
        shorter = inputs.narrow(axis, 0, inputs.shape[axis] - 1).contiguous()
        try:
            net(shorter.clone())
        except Exception as error:  # the network's own code may raise anything
            raise UserError(
                f"export: the network does not run with {shorter.shape[axis]} positions of axis {axis} ({name}), so "
                f"this axis cannot be in axes: {_first_line(error)}"
            ) from error
        yield shorter


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
    net = copy_for_export(net, inputs)
    widen(net, inputs, PYTORCH_GATHER_COST)
    with refuse_errors("torch.export"):
        program = torch.export.export(net, (inputs,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    _check_same(net, (inputs, inputs[:1]), program.module(), "torch.export")
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
def copy_for_export(net: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy in eval mode on the CPU; a GPU may multiply in TF32, which differs by more than the check allows.

    A network that does not run on the inputs, or returns no tensor of finite numbers, is refused.
    A network with an empty layer is refused only if its outputs are constant: a residual network may lose a block.
    """
    if len(inputs) < 2:
        raise UserError("export: needs at least two inputs to make a program for any batch size")
    net = copy_network(net, "export").cpu().eval()
    try:
        outputs = net(inputs.clone())
    except Exception as error:  # the network's own code may raise anything
        raise UserError(
            f"export: the network does not run on inputs of shape {tuple(inputs.shape)}: {_first_line(error)}"
        ) from error
    if not isinstance(outputs, Tensor):
        raise UserError(f"export: the network returns a {type(outputs).__name__}; it must return one tensor")
    if not bool(outputs.isfinite().all()):
        raise UserError("export: outputs of the network on these inputs are not finite; look for NaN in the inputs")
    if _empty_layers(net) and bool((outputs == outputs[:1]).all()):
        raise UserError(
            f"export: nothing is left of {', '.join(_empty_layers(net))}; prune less: choose a higher threshold, or if "
            "training has pruned it already, a lower weight of the KL"
        )
    return net


@contextmanager
def refuse_errors(what: str) -> Iterator[None]:
    """Turns any error of an exporter into a UserError of one line that names the exporter."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ or error  # torch.onnx wraps what torch.export says in its own advice
        raise UserError(f"export: {what} cannot write this network: {_first_line(cause)}") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _empty_layers(net: nn.Module) -> list[str]:
    return [n for n, layer in net.named_modules() if isinstance(layer, LAYERS) and not bool(layer.weight.any())]


def import_optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"export: ONNX needs {name}; pip install 'pyro-vd[onnx]'") from None


@torch.no_grad()
def _check_same(net: nn.Module, batches: Iterable[Tensor], run: Callable[[Tensor], Tensor], what: str) -> None:
    """Compares the outputs of ``run`` with the network's on each of the batches.

    The network is run in float64 if possible, because its rounding error in float32 may be above the tolerance.
    """
    rounding = torch.zeros((), dtype=torch.float64)
    for batch in batches:
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
