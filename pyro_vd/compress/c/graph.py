"""Reads a network: the graph that torch.export traces, as the steps of :mod:`pyro_vd.compress.c.steps`."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from pyro_vd.compress.c.calls import Call, Result, Selection
from pyro_vd.compress.c.layers import Layer
from pyro_vd.compress.c.names import free_name, to_identifier
from pyro_vd.compress.c.readers import ALIASES, COMPARISONS, read_call
from pyro_vd.compress.c.steps import Affine, Concatenation, Step
from pyro_vd.compress.c.values import Values
from pyro_vd.compress.export import refuse_errors
from pyro_vd.compress.onnx_names import dynamic_shapes
from pyro_vd.errors import UserError

__all__ = ["INPUT", "Graph", "read_graph"]

INPUT = "input"


@dataclass(frozen=True)
class Graph:
    """The steps of a network in order; the last one computes its output.

    Attributes:
        inputs: shape of one input.
        steps: the steps.
        shape: of the outputs for one input.
    """

    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    shape: tuple[int, ...]

    @property
    def outputs(self) -> int:
        """Number of outputs for one input."""
        return self.steps[-1].size

    def run(self, inputs: Tensor) -> Tensor:
        """The outputs in PyTorch, (batch, ...)."""
        results = {INPUT: inputs}
        for step in self.steps:
            given = [results[name] for name in step.reads]
            results[step.name] = step.run(*given)
        return results[self.steps[-1].name].reshape(len(inputs), *self.shape)

    def rounded(self, values: Values) -> Graph:
        """The graph with the weights that C computes with."""
        steps = [step.rounded(values) if isinstance(step, Layer) else step for step in self.steps]
        return replace(self, steps=tuple(steps))


def read_graph(net: nn.Module, inputs: Tensor) -> Graph:
    """The steps of ``net``, traced on a batch of inputs.

    Raises:
        UserError: for a network that torch.export cannot trace; for an operation that has no form in C or combines
            examples of the batch, naming the layer or the operation.
    """
    with refuse_errors("torch.export"), torch.no_grad():
        shapes = dynamic_shapes(net, inputs, {}, torch.export.Dim.AUTO)
        program = torch.export.export(net, (inputs,), dynamic_shapes=shapes)
        program = program.run_decompositions({})
    program.graph.eliminate_dead_code()
    reader = _Reader(program)
    for node in program.graph.nodes:
        reader.read(node)
    return Graph(tuple(inputs.shape[1:]), tuple(_fold(reader.steps)), reader.shape)


class _Reader:
    """Reads the nodes of a program in order.

    Attributes:
        steps: those read so far.
        shape: of the outputs for one input, once the end is read.
    """

    def __init__(self, program: torch.export.ExportedProgram):
        self.steps: list[Step] = []
        self.shape: tuple[int, ...] = ()
        self._values: dict[fx.Node, Any] = {}
        self._names = {INPUT}
        self._batch = ""
        signature = program.graph_signature
        state = {**program.state_dict, **program.constants}
        self._constants = {
            node: state[name].detach()
            for names in (signature.inputs_to_parameters, signature.inputs_to_buffers,
                          signature.inputs_to_lifted_tensor_constants)
            for node, name in names.items()
        }  # fmt: skip

    def read(self, node: fx.Node) -> None:
        if node.op == "output":
            outputs = [output for output in pytree.tree_leaves(node.args) if output is not None]
            if len(outputs) != 1:
                raise UserError(
                    f"to_c: the network returns {len(outputs)} tensors, and the function in C one; return one tensor; "
                    "nothing is written"
                )
            self._end(self._values[outputs[0]])
        elif node.op == "placeholder":
            self._values[node] = self._read_placeholder(node)
        elif node.target is operator.getitem:
            self._values[node] = self._read_item(node)
        elif not _tensors(node):
            self._values[node] = node.meta.get("val")  # a size, which no step needs, or nothing
        else:
            self._values[node] = self._read_operation(node)

    def _read_placeholder(self, node: fx.Node) -> Tensor | Result:
        constant: Tensor | None = self._constants.get(node.name)
        if constant is not None:
            return constant
        self._batch = str(node.meta["val"].shape[0])
        return Result(INPUT, self._shape(node))

    def _read_item(self, node: fx.Node) -> Any:
        source, index = node.args
        if index != 0:
            raise UserError(f"to_c: {_where(node)}: only the first result has a form in C; nothing is written")
        return self._values[source]  # type: ignore[index]

    def _read_operation(self, node: fx.Node) -> Any:
        arguments, compute = _bind(node, self._values), _compute(node, self._values)
        leaves = pytree.tree_leaves(arguments)
        if any(isinstance(leaf, torch.SymInt) for leaf in leaves) and _operation(node) not in ALIASES:
            raise UserError(f"to_c: {_where(node)} depends on the number of examples; nothing is written")
        if not any(isinstance(leaf, Result | Selection) for leaf in leaves):
            return compute()  # of constants
        call = Call(_operation(node), _where(node), self._name(node), arguments, self._shape(node), compute)
        dtype = _tensors(node)[0].dtype
        if dtype != torch.float32 and not (dtype == torch.bool and call.operation in COMPARISONS):
            raise call.refuse(f"makes a tensor of {dtype}", "compute in float32")
        made = read_call(call)
        if isinstance(made, Step):
            self.steps.append(made)
            return Result(made.name, made.shape)
        return made

    def _shape(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of the result, without the batch."""
        shape = _tensors(node)[0].shape
        if not shape or str(shape[0]) != self._batch:
            raise UserError(
                f"to_c: {_where(node)} makes a tensor whose first axis is not the batch; compute each example by "
                "itself; nothing is written"
            )
        return tuple(int(size) for size in shape[1:])

    def _name(self, node: fx.Node) -> str:
        """A C identifier that no other result has."""
        path, kind = _module(node)
        name = free_name(to_identifier(path if kind and path else node.name), self._names)
        self._names.add(name)
        return name

    def _end(self, output: Any) -> None:
        """Lets the last step compute the output."""
        if not isinstance(output, Result):
            what = "is selected entries" if isinstance(output, Selection) else "does not depend on its input"
            raise UserError(f"to_c: the network's output {what}; let a layer or an operation compute it of its input")
        self.shape = output.shape
        if output.name == INPUT:
            copy = Concatenation(
                name="output",
                where="the output",
                reads=(INPUT,),
                shape=output.shape,
                compute=Tensor.clone,
                sizes=(torch.Size(output.shape).numel(),),
            )
            self.steps.append(copy)


def _fold(steps: Sequence[Step]) -> list[Step]:
    """The steps with each scale and shift in the layer before it, if no other step reads that layer."""
    readers = Counter(name for step in steps for name in step.reads)
    kept: dict[str, Step] = {}
    renamed: dict[str, str] = {}
    for given in steps:
        step = replace(given, reads=tuple(renamed.get(name, name) for name in given.reads))
        source, is_only = kept.get(step.reads[0]), readers[given.reads[0]] == 1
        if isinstance(step, Affine) and isinstance(source, Layer) and is_only and source.fits(step):
            kept[source.name] = source.folded(step)
            renamed[step.name] = source.name
        else:
            kept[step.name] = step
    return list(kept.values())


def _tensors(node: fx.Node) -> list[Tensor]:
    """The tensors of the result, without their values."""
    return [leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, Tensor)]


def _operation(node: fx.Node) -> str:
    """PyTorch's name of the operation without the overload; another library's with its namespace."""
    namespace, name, *_ = str(node.target).split(".")
    return name if namespace == "aten" else f"{namespace}.{name}"


def _bind(node: fx.Node, values: Mapping[fx.Node, Any]) -> dict[str, Any]:
    """The arguments by their names in PyTorch, those that are nodes by their values, and the defaults."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip((argument.name for argument in schema), node.args, strict=False)) | node.kwargs
    bound = {argument.name: given.get(argument.name, argument.default_value) for argument in schema}
    return fx.node.map_arg(bound, lambda other: values.get(other))


def _compute(node: fx.Node, values: Mapping[fx.Node, Any]) -> Callable[..., Tensor]:
    """The operation as a function of the results that it reads, (batch, ...) each."""

    def compute(*given: Tensor) -> Tensor:
        tensors = iter(given)

        def fill(other: fx.Node) -> Any:
            value = values[other]
            if isinstance(value, Result):
                return next(tensors).reshape(-1, *value.shape)
            return value

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), fill)
        made = node.target(*args, **kwargs)  # type: ignore[operator]
        return made[0] if isinstance(made, tuple) else made  # type: ignore[no-any-return]

    return compute


def _module(node: fx.Node) -> tuple[str, str]:
    """The innermost module of the call, its path and the name of its class; no name if it is no layer."""
    path, kind = [*node.meta.get("nn_module_stack", {"": ("", "")}).values()][-1]
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    is_layer = kind.startswith("torch.nn.modules.") or kind.endswith(".SelectedLinear")
    return path, kind.rpartition(".")[2] if is_layer else ""


def _where(node: fx.Node) -> str:
    path, kind = _module(node)
    return f"layer {path!r} ({kind})" if kind else f"operation {node.name!r}" + (f" of {path!r}" if path else "")
