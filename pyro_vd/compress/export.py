"""Writes a compressed network for other programs: as ONNX, for torch.export, or as safetensors with a JSON file.

The first two run the exported program and the network on the CPU and compare their outputs before they write the file.
If the outputs differ, no file is written. The exported programs are for the CPU.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import math
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
from pyro_vd.compress.onnx_names import (
    BATCH,
    Axes,
    axes_by_input,
    dynamic_shapes,
    in_order,
    named_inputs,
    output_names,
    shorter_inputs,
)
from pyro_vd.compress.rounding import ROUNDING_FACTOR, outputs_in_float64
from pyro_vd.compress.storage import to_safetensors_bytes
from pyro_vd.errors import UserError
from pyro_vd.files import write_atomically, write_together
from pyro_vd.pytree import Tree, as_tree, bind, call, count, leaves, map_leaves, take

__all__ = [
    "check_same",
    "copy_for_export",
    "import_optional",
    "load_onnx",
    "measure_error",
    "onnx_content",
    "refuse_errors",
    "to_onnx",
    "to_safetensors",
    "to_torch_export",
]

TOLERANCE = 1e-5  # of the largest logit; more if the network's own rounding error is larger


def to_onnx(net: nn.Module, inputs: Tree, path: str | Path, axes: Axes | None = None) -> None:
    """Writes ``net`` in eval mode as ONNX, for any batch size, after running it in onnxruntime.

    The model's input is called ``input``, its output ``output``, and their first axis ``batch``. Several inputs have
    the names of the arguments of the network's ``forward``. Several outputs are called ``output.0``, ``output.1`` of a
    tuple, and have the keys of a dict. A :class:`SelectedLinear` is written as a linear layer with zeros if that is
    faster (see :mod:`pyro_vd.compress.gather`).

    Args:
        net: the network.
        inputs: a batch of at least two inputs, for tracing and for the check: a tensor, a tuple of positional arguments
            of the network, or a dict of arguments by name.
        path: the file.
        axes: further axes of the input that may have any size, each with its name: ``{2: "height", 3: "width"}``. For
            several inputs, by input: ``{"tokens": {1: "length"}, "mask": {1: "length"}}``; axes of one name have one
            size. The check also runs with one position less along each.

    Raises:
        UserError: if layers are empty and the outputs are constant, naming them; if the onnx packages are missing; if
            the network does not run on the inputs, cannot be traced, or onnxruntime cannot run it; if it does not run
            with another size of one of the ``axes``, naming it; if its outputs differ from the network's in float64 by
            more than 1e-5 of the largest output and by more than 8 times the network's own rounding error.
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    write_atomically(Path(path), onnx_content(net, inputs, axes or {}))


def onnx_content(net: nn.Module, inputs: Tree, axes: Axes) -> bytes:
    """The content of the file that :func:`to_onnx` writes, after the same checks."""
    inputs = in_order(net, inputs)
    named = named_inputs(net, inputs)
    by_input = axes_by_input(named, axes)
    net = copy_for_export(net, inputs)
    widen(net, inputs, ONNXRUNTIME_GATHER_COST)
    batches = (inputs, take(inputs, slice(1)), *_shorter_inputs(net, inputs, by_input))
    for package in ("onnxruntime", "onnxscript"):
        import_optional(package)
    bound = bind(net, inputs)
    with refuse_errors("ONNX"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program: Any = torch.onnx.export(
            net,
            bound.args,
            kwargs=bound.kwargs,
            dynamo=True,
            dynamic_shapes=dynamic_shapes(net, inputs, by_input, BATCH),
            input_names=list(named),
            output_names=output_names(call(net, map_leaves(torch.clone, inputs))),
            verbose=False,
        )
        content: bytes = program.model_proto.SerializeToString()
        run = load_onnx(content)
    check_same(net, batches, lambda batch: run(named_inputs(net, batch)), "onnxruntime")
    return content


def load_onnx(content: bytes) -> Callable[[Mapping[str, Tensor]], list[Tensor]]:
    """The function of an ONNX file's content, from inputs by name to outputs, on the CPU in onnxruntime."""
    session = import_optional("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda named: [
        torch.from_numpy(found) for found in session.run(None, {name: x.numpy() for name, x in named.items()})
    ]


def _shorter_inputs(net: nn.Module, inputs: Tree, axes: Mapping[str, Mapping[int, str]]) -> Iterator[Tree]:
    """The inputs with one position less along each of the axes."""
    for axis, size, shorter in shorter_inputs(net, inputs, axes):
        try:
            call(net, map_leaves(torch.clone, shorter))
        except Exception as error:  # the network's own code may raise anything
            raise UserError(
                f"export: the network does not run with {size} positions of {axis}, so this axis cannot be in axes: "
                f"{_first_line(error)}"
            ) from error
        yield shorter


def to_torch_export(net: nn.Module, inputs: Tree, path: str | Path) -> None:
    """Writes ``net`` in eval mode as a ``.pt2`` file, for any batch size; ``torch.export.load`` reads it.

    Args:
        net: the network.
        inputs: a batch of at least two inputs, for tracing and for the check, as in :func:`to_onnx`.
        path: the file.

    Raises:
        UserError: if layers are empty and the outputs are constant, naming them; if the network cannot be traced, or
            the exported program's outputs differ.
        OSError: if the file cannot be written; a file that was there is untouched.
    """
    inputs = in_order(net, inputs)
    net = copy_for_export(net, inputs)
    widen(net, inputs, PYTORCH_GATHER_COST)
    bound = bind(net, inputs)
    with refuse_errors("torch.export"):
        shapes = dynamic_shapes(net, inputs, {}, torch.export.Dim.DYNAMIC)
        program = torch.export.export(net, bound.args, bound.kwargs, dynamic_shapes=shapes)
        module = program.module()
    check_same(net, (inputs, take(inputs, slice(1))), lambda batch: _outputs(module, batch), "torch.export")
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
def copy_for_export(net: nn.Module, inputs: Tree) -> nn.Module:
    """A copy in eval mode on the CPU; a GPU may multiply in TF32, which differs by more than the check allows.

    A network that does not run on the inputs, or returns no tensor of finite numbers, is refused.
    A network with an empty layer is refused only if its outputs are constant: a residual network may lose a block.
    """
    if count(inputs) < 2:
        raise UserError("export: needs at least two inputs to make a program for any batch size")
    net = copy_network(net, "export").cpu().eval()
    shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves(inputs))
    try:
        outputs = leaves(as_tree(call(net, map_leaves(torch.clone, inputs))))
    except Exception as error:  # the network's own code may raise anything
        raise UserError(
            f"export: the network does not run on inputs of shape {shapes}: {_first_line(error)}"
        ) from error
    outputs = [output for output in outputs if output is not None]
    others = [type(output).__name__ for output in outputs if not isinstance(output, Tensor)]
    if others or not outputs:
        raise UserError(f"export: the network returns a {', '.join(others) or 'None'}; it must return tensors")
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise UserError("export: outputs of the network on these inputs are not finite; look for NaN in the inputs")
    if _empty_layers(net) and all(bool((output == output[:1]).all()) for output in outputs if output.ndim):
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
def check_same(net: nn.Module, batches: Iterable[Tree], run: Callable[[Tree], list[Tensor]], what: str) -> None:
    """Compares the outputs of ``run`` with the network's on each of the batches.

    The network is run in float64 if possible, because its rounding error in float32 may be above the tolerance.
    """
    rounding: dict[int, Tensor] = {}
    for batch in batches:
        own = [output.double() for output in _outputs_of_any_size(net, batch)]
        exact = outputs_in_float64(net, batch) or own
        for number, got in enumerate(run(batch)):
            error = (own[number] - exact[number]).abs().max()
            rounding[number] = torch.maximum(rounding.get(number, error), error)  # on one example it may be small
            largest = exact[number].abs().max().clamp(min=1e-30)
            difference = (got.double() - exact[number]).abs().max()
            if not bool(difference <= torch.maximum(TOLERANCE * largest, ROUNDING_FACTOR * rounding[number])):
                raise UserError(
                    f"export: outputs of {what} differ by {difference / largest:.1e} of the largest; nothing is written"
                )


def _outputs_of_any_size(net: nn.Module, batch: Tree) -> list[Tensor]:
    try:
        return _outputs(net, batch)
    except Exception as error:  # the network's own code may raise anything
        raise UserError(
            f"export: the network does not run on a batch of {count(batch)}: {_first_line(error)}; its forward must "
            "take any number of inputs; nothing is written"
        ) from error


def _outputs(net: nn.Module, inputs: Tree) -> list[Tensor]:
    bound = bind(net, map_leaves(torch.clone, inputs))
    return [output for output in leaves(as_tree(net(*bound.args, **bound.kwargs))) if output is not None]


@torch.no_grad()
def measure_error(net: nn.Module, inputs: Tree, run: Callable[[Tree], list[Tensor]], what: str) -> float:
    """Largest difference of the outputs of ``run`` from the network's, as a share of the network's largest output.

    Raises:
        UserError: if it is 1 or more, or not finite: outputs of 0 would be nearer.
    """
    exact = [output.double() for output in _outputs(copy_for_export(net, inputs), inputs)]
    pairs = zip(run(inputs), exact, strict=True)
    errors = [float((got - one).abs().max() / one.abs().max().clamp(min=1e-30)) for got, one in pairs]
    error = math.nan if any(map(math.isnan, errors)) else max(errors)
    if not error < 1:
        raise UserError(
            f"export: outputs {what} differ by {error:.1e} of the largest; nothing is written; look for inputs or "
            "weights that are much larger than the others"
        )
    return error
