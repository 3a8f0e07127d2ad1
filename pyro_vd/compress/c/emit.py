"""Puts the C files of a network together: its steps, the places of their results, and the templates."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from string import Template

from torch import Tensor

from pyro_vd.compress.c.graph import INPUT, Graph
from pyro_vd.compress.c.scratch import Use, place
from pyro_vd.compress.c.source import Source, wrap
from pyro_vd.compress.c.values import Values, literal

__all__ = ["Files", "emit"]

SELF_TEST_TOLERANCE = "1e-4"  # of the largest output; a device's own functions may round differently


@dataclass(frozen=True)
class Files:
    """The text of the two files, and what they take.

    Attributes:
        source: the C file.
        header: its header.
        table_bytes: bytes of the constants.
        scratch: floats that the caller gives to the function.
    """

    source: str
    header: str
    table_bytes: int
    scratch: int


def emit(graph: Graph, example: Tensor, values: Values, network: str, stem: str, prefix: str) -> Files:
    """Writes the steps of ``graph`` as C.

    Args:
        graph: a network whose weights are those that ``values`` can hold.
        example: one input for the self test, (1, ...).
        values: type of the stored weights.
        network: name of the network for the comments.
        stem: name of the files without their suffix.
        prefix: first part of the names that the header declares.
    """
    source, (starts, scratch) = Source(values), place(_uses(graph))
    statements = [_write_statement(index, graph, source, starts) for index in range(len(graph.steps))]
    words = {
        "network": network,
        "stem": stem,
        "prefix": prefix,
        "upper": prefix.upper(),
        "values": values.name,
        "shape": " x ".join(map(str, graph.inputs)) or "1",
        "inputs": str(example.numel()),
        "outputs": str(graph.outputs),
        "scratch": str(max(1, scratch)),  # C has no arrays of length 0
        "tables": f"{source.table_bytes:,}",
        "tolerance": SELF_TEST_TOLERANCE,
        "parts": source.write(),
        "statements": "\n".join(statements),
        "test_input": _numbers(example),
        "test_output": _numbers(graph.run(example)),
    }
    return Files(_fill("network.c", words), _fill("network.h", words), source.table_bytes, max(1, scratch))


def _uses(graph: Graph) -> dict[str, Use]:
    """The results that need scratch memory: all but the output."""
    last = {name: index for index, step in enumerate(graph.steps) for name in step.reads}
    return {
        step.name: Use(step.size, index, last[step.name], step.reads[0] if step.in_place else None)
        for index, step in enumerate(graph.steps[:-1])
    }


def _write_statement(index: int, graph: Graph, source: Source, starts: dict[str, int]) -> str:
    """The call of one step, below a comment that names its result."""
    step = graph.steps[index]
    places = {INPUT: "input", graph.steps[-1].name: "output"}
    places |= {name: f"scratch + {start}" if start else "scratch" for name, start in starts.items()}
    statement = step.write(source, [places[name] for name in step.reads], places[step.name])
    shape = " x ".join(map(str, step.shape))
    return textwrap.indent(f"/* {step.name}: {shape} */\n{statement}", "    ")


def _numbers(tensor: Tensor) -> str:
    return wrap(", ".join(literal(number) for number in tensor.flatten().tolist()))


def _fill(template: str, words: dict[str, str]) -> str:
    text = (Path(__file__).parent / "templates" / template).read_text(encoding="utf-8")
    return Template(text).substitute(words)
