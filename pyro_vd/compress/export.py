"""A compressed network for other programs: ONNX, torch.export, and a plain safetensors file beside its JSON.

The first two are run against the network, both on the CPU, before the file is there, and leave no file where their
outputs differ. What they write is for the CPU.
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

import torch
from torch import Tensor, nn

from pyro_vd.compress.channels import LAYERS
from pyro_vd.compress.copies import copy_of
from pyro_vd.compress.gather import ONNXRUNTIME, PYTORCH, widen
from pyro_vd.compress.rounding import ROUNDINGS, outputs_in_float64
from pyro_vd.compress.shrink import architecture
from pyro_vd.compress.storage import as_safetensors
from pyro_vd.errors import UserError
from pyro_vd.files import write_atomically, write_together

__all__ = ["to_onnx", "to_safetensors", "to_torch_export"]

TOLERANCE = 1e-5  # of the largest logit; more where the network's own rounding is more


def to_onnx(net: nn.Module, inputs: Tensor, path: str | Path) -> None:
    """Writes ``net`` in eval mode as ONNX, for any batch size, after running it in onnxruntime.

    A :class:`SelectedLinear` is written as a linear layer with zeros where that is faster (see
    :mod:`pyro_vd.compress.gather`).

    Args:
        inputs: a batch of inputs, two at least, to trace and to check with. The model's input is called ``x``, its
            output ``logits``.

    Raises:
        UserError: where layers are empty and the outputs are constant, naming them; where the onnx packages are
            missing; where the network cannot be traced or onnxruntime cannot run it; where its outputs differ from the
            network's in float64 by more than 1e-5 of the largest and by more than 8 times the network's own rounding.
        OSError: when the disk refuses; a file that was there is untouched.
    """
    inputs = inputs.cpu()
    net = _checked(net, inputs)
    widen(net, inputs, ONNXRUNTIME)
    onnxruntime = _optional("onnxruntime")
    _optional("onnxscript")
    with _by_name("ONNX"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            net, (inputs,), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), input_names=["x"],
            output_names=["logits"], verbose=False,
        )  # fmt: skip
        content = program.model_proto.SerializeToString()  # type: ignore[union-attr]
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _check_same(net, inputs, lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), "onnxruntime")
    write_atomically(Path(path), content)


def to_torch_export(net: nn.Module, inputs: Tensor, path: str | Path) -> None:
    """Writes ``net`` in eval mode as a ``.pt2`` file, for any batch size; ``torch.export.load`` reads it.

    Args:
        inputs: a batch of inputs, two at least, to trace and to check with.

    Raises:
        UserError: where layers are empty and the outputs are constant, naming them; where the exported program's
            outputs differ, or it cannot trace the network.
        OSError: when the disk refuses; a file that was there is untouched.
    """
    inputs = inputs.cpu()
    net = _checked(net, inputs)
    widen(net, inputs, PYTORCH)
    with _by_name("torch.export"):
        program = torch.export.export(net, (inputs,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    _check_same(net, inputs, program.module(), "torch.export")
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(Path(path), buffer.getvalue())


def to_safetensors(net: nn.Module, path: str | Path) -> None:
    """Writes the network's state, dense, as ``path``, and beside it ``path`` + ".json" with its layers' sizes, the
    names of those that are empty, and the SHA-256 of the tensor file, for any reader of either.

    The JSON is replaced last: where its digest is not that of the tensor file, writing was interrupted between the two.

    For few bytes, and to load a shrunk network, see :func:`pyro_vd.compress.save`.

    Raises:
        OSError: when the disk refuses; where it is full, files that were there are untouched.
    """
    path = Path(path)
    sizes = {name: {"inputs": inputs, "outputs": outputs} for name, (inputs, outputs) in architecture(net).items()}
    content = as_safetensors(net)
    digest = hashlib.sha256(content).hexdigest()
    about = {"network": type(net).__name__, "layers": sizes, "empty": _empty(net), "sha256": digest}
    write_together({path: content, path.with_name(path.name + ".json"): json.dumps(about).encode()})


@torch.no_grad()
def _checked(net: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy in eval mode on the CPU whose outputs depend on its inputs: a residual network may lose a block and be
    whole. A GPU's own products, in TF32, would differ by more than the check allows."""
    if len(inputs) < 2:
        raise UserError("export: needs two inputs at least, to make a program for any batch size")
    net = copy_of(net, "export").cpu().eval()
    outputs = net(inputs)
    if _empty(net) and bool((outputs == outputs[:1]).all()):
        raise UserError(
            f"export: nothing is left of {', '.join(_empty(net))}; prune less of it: a higher threshold, or where "
            "training pruned it already, a lower weight of the KL"
        )
    return net


@contextmanager
def _by_name(what: str) -> Iterator[None]:
    """Whatever an exporter raises, and they raise anything, in a line that says whose it is."""
    try:
        yield
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"export: {what} cannot write this network: {first}") from error


def _empty(net: nn.Module) -> list[str]:
    return [n for n, layer in net.named_modules() if isinstance(layer, LAYERS) and not bool(layer.weight.any())]


def _optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"export: ONNX needs {name}; pip install 'pyro-vd[onnx]'") from None


@torch.no_grad()
def _check_same(net: nn.Module, inputs: Tensor, run: Callable[[Tensor], Tensor], what: str) -> None:
    """Against the network in float64 where it runs in it: its own rounding in float32 may be beyond the tolerance."""
    rounding = torch.zeros((), dtype=torch.float64)
    for batch in (inputs, inputs[:1]):
        own = net(batch.clone()).double()
        exact = outputs_in_float64(net, batch)
        exact = own if exact is None else exact
        rounding = torch.maximum(rounding, (own - exact).abs().max())  # of one example it may be small by luck
        largest = exact.abs().max().clamp(min=1e-30)
        difference = (run(batch).double() - exact).abs().max()
        if not bool(difference <= torch.maximum(TOLERANCE * largest, ROUNDINGS * rounding)):
            raise UserError(
                f"export: outputs of {what} differ by {difference / largest:.1e} of the largest; nothing is written"
            )
