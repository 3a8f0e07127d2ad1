"""State outside of tensors, which Python code in a forward pass may change or read and a compiled graph does not."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.inference.engine.objective import Objective, trace_objective
from pyro_vd.process_state import fork_rng
from pyro_vd.pytree import Tree, first

__all__ = ["PythonState", "attributes", "differences", "keep_python_state", "refuse_python_effects"]

PythonState = dict[str, object]
PLAIN_TYPES = (bool, int, float, complex, str, bytes, type(None))


def refuse_python_effects(objective: Objective, x: Tree, y: Tree) -> None:
    """Refuses a forward pass that a graph of tensor operations cannot repeat.

    Python code runs once, when the graph is made. So a forward pass must not draw from the generators of Python or
    NumPy, change attributes, or assign buffers anew. Two traces of it, under other states of those generators, must be
    the same graph. What else it may read, such as the time, is not checked.

    Args:
        objective: the training objective; its parameters, buffers, attributes and generators are not changed.
        x, y: one batch.

    Raises:
        UserError: naming what the forward pass changes or draws from.
    """
    with keep_python_state(objective), fork_rng(first(y)):
        before = _generators() | attributes(objective)
        with pyro.validation_enabled(False):
            objective(x, y, torch.ones((), device=first(y).device))
        changed = differences(before, _generators() | attributes(objective))
    if not changed:
        changed = _differing_traces(objective, x, y)
    if changed:
        raise UserError(
            f"a forward pass draws from or changes {', '.join(changed)}, which a compiled step would do only once; "
            "draw by torch and keep state in registered buffers that are changed in place"
        )


def _differing_traces(objective: Objective, x: Tree, y: Tree) -> list[str]:
    with keep_python_state(objective), fork_rng(first(y)):
        random.seed(1)
        np.random.seed(1)
        one = trace_objective(objective, x, y)
        random.seed(2)
        np.random.seed(2)
        other = trace_objective(objective, x, y)
    constants = [[value for name, value in traced.named_buffers() if "constant" in name] for traced in (one, other)]
    same = one.code == other.code and all(map(torch.equal, *constants))
    return [] if same else ["something that differs from call to call"]


@contextmanager
def keep_python_state(objective: Objective) -> Iterator[None]:
    """Restores the global generators and the modules' attributes and buffers on exit."""
    states = random.getstate(), np.random.get_state()
    modules = list(objective.modules())
    before = [{**vars(module), "_buffers": dict(module._buffers)} for module in modules]
    lists = [(value, list(value)) for module in modules for value in vars(module).values() if type(value) is list]
    values = [(buffer, buffer.clone()) for buffer in objective.buffers()]
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for module, attributes in zip(modules, before, strict=True):
            for name in vars(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update(attributes)
        for found, content in lists:
            found[:] = content
        for buffer, value in values:
            buffer.data.copy_(value)


def _generators() -> PythonState:
    """Digests of the states of the global generators of Python and NumPy."""
    states = {"Python's random": random.getstate(), "numpy's random": np.random.get_state()}
    return {name: hashlib.sha256(repr(state).encode()).hexdigest() for name, state in states.items()}


def attributes(objective: Objective) -> PythonState:
    """Plain attributes, generators and identities of buffers of the user's modules: network, likelihood, guide."""
    found: PythonState = {}
    for name, module in objective.named_modules():
        if module is objective:
            continue
        found |= {f"{name}.{key}": value for key, value in _plain_attributes(module)}
        found |= {f"{name}.{key}, assigned anew": id(buffer) for key, buffer in module._buffers.items()}
        found |= {
            f"{name}.{key}.requires_grad": p.requires_grad for key, p in module._parameters.items() if p is not None
        }
    return found


def differences(before: PythonState, after: PythonState) -> list[str]:
    """Names whose values differ, or that only one has."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


LIBRARY_ATTRIBUTES = frozenset({*vars(nn.Module()), "_projected"})  # the last: a guide's own, of its projection


def _plain_attributes(module: nn.Module) -> Iterator[tuple[str, object]]:
    for key, value in vars(module).items():
        described = _described(value) if key == "training" or key not in LIBRARY_ATTRIBUTES else None
        if described is not None:
            yield key, described


def _described(value: Any) -> object | None:
    """A description that is equal as long as the value is the same; None for a value that is not plain."""
    if isinstance(value, PLAIN_TYPES):
        return repr(value)
    if isinstance(value, list | tuple | set | dict):
        parts = value.items() if isinstance(value, dict) else value
        return repr([_described(part) if not isinstance(part, tuple) else [*map(_described, part)] for part in parts])
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    if isinstance(value, random.Random):
        return hash(value.getstate())
    if isinstance(value, torch.Generator):
        return bytes(value.get_state().tolist())
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, Tensor):
        return id(value), value._version
    return None
