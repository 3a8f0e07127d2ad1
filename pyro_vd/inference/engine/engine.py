"""Engine: runs the steps of a fit eagerly, compiled, or as a CUDA graph."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.inference.engine.compiled_step import compile_graph
from pyro_vd.inference.engine.cuda_graph_step import CudaGraphStep
from pyro_vd.inference.engine.eager_step import EagerStep
from pyro_vd.inference.engine.ensemble import Ensemble
from pyro_vd.inference.engine.python_state import PythonState, attributes, differences, refuse_python_effects
from pyro_vd.inference.engine.step_output import StepOutput
from pyro_vd.process_state import fork_rng
from pyro_vd.pytree import Tree, describe_structure, first, leaves, map_leaves

__all__ = ["COMPILE_PAYS_AFTER", "Engine", "EngineName"]

EngineName = Literal["auto", "eager", "compiled", "cudagraph"]
COMPILE_PAYS_AFTER = 5_000  # steps: tracing and compiling cost 30-45 s, a compiled step saves 10-60 ms on two CPU cores
Step = Callable[..., StepOutput]


def identity(x: Tree, y: Tree) -> tuple[Tree, Tree]:
    """For batches that are given as (x, y)."""
    return x, y


class Engine:
    """Steps a pair, or an ensemble of pairs: eagerly, as one compiled graph, or as a CUDA graph of it.

    Pyro's handlers, autograd and the optimizer's loop over parameters are Python that does the same at every step.
    Compiled, they run once: ``pyro_vd.inference.engine.compiled_step`` leaves one graph of tensor operations over the
    same parameters and the same state of the optimizer, and ``pyro_vd.inference.engine.ensemble`` maps it over many
    pairs. On a GPU a CUDA graph of that, with the gathering of the batch before it, leaves the host a few calls per
    step. The engines make the same step in distribution. A graph has a fixed batch size, so a smaller last batch steps
    eagerly.

    Args:
        pair: the pair in training, or an ensemble.
        engine: "eager", "compiled", "cudagraph", or "auto": compiled if the run is long enough to gain from it and the
            trace succeeds; otherwise eager, with one warning that says why. With an optimizer that only steps eagerly
            "auto" is "eager", without a warning. "auto" never picks "cudagraph", see
            ``pyro_vd.inference.engine.cuda_graph_step``.
        steps: planned number of steps, for "auto".
        batch_size: of the batches to compile for; None for that of the first. A resumed run may start with a smaller.
        gather: makes a batch ``(x, y)`` of what :meth:`step` is given of it, for example of indices.

    Attributes:
        name: of the engine that was picked, "eager", "compiled" or "cudagraph".
        is_automatic: whether the choice was left to the engine.
        compile_seconds: the time that tracing, compiling and capturing took.

    Raises:
        UserError: for another engine, a CUDA graph of a pair that is not on a GPU, or a graph of a step whose optimizer
            only steps eagerly; at the first step, if the engine is not "auto" and the pair cannot be traced or
            compiled.
    """

    def __init__(
        self,
        pair: EagerStep | Ensemble,
        engine: EngineName = "auto",
        steps: int = 0,
        batch_size: int | None = None,
        gather: Callable[..., tuple[Tree, Tree]] = identity,
    ):
        if engine not in get_args(EngineName):
            raise UserError(f"engine={engine!r}: engine is one of {', '.join(get_args(EngineName))}")
        device = pair.members[0].objective.threshold.device
        if engine == "cudagraph" and device.type != "cuda":
            raise UserError(
                f"engine='cudagraph': the model is on {device}; move it to a CUDA device, or use 'compiled'"
            )
        update = pair.members[0].update
        is_compilable = update.value is not None and update.value.is_compilable
        if engine in ("compiled", "cudagraph") and not is_compilable:
            raise UserError(
                f"engine={engine!r}: the optimizer {update.name} only steps eagerly; use engine='eager', or an "
                "optimizer of pyro_vd.optim"
            )
        self.pair = pair
        self.is_automatic = engine == "auto"
        pays = is_compilable and steps >= COMPILE_PAYS_AFTER
        self.name: str = engine if engine != "auto" else "compiled" if pays else "eager"
        self.batch_size = batch_size
        self.gather = gather
        self.compile_seconds = 0.0
        self._factor = torch.ones((), device=device)
        self._graph: Step | None = None
        self._signature: list[Any] = []
        self._attributes: list[PythonState] = []  # of every pair, when it was compiled

    def set_lr(self, factor: float) -> None:
        """Sets every learning rate to its base rate times ``factor``."""
        self._factor.fill_(factor)
        self.pair.set_lr(factor)

    def set_threshold(self, threshold: float) -> None:
        """Sets the train-time masking threshold; ``math.inf`` for no masking."""
        self.pair.set_threshold(threshold)

    def step(self, index: Sequence[Tree], beta: Tensor) -> StepOutput:
        """One step. A step that is not finite changes nothing of its pair.

        Args:
            index: the arguments of ``gather``; by default the batch, (x, y). The first axis of the last one counts the
                examples, or the second one, after that of an ensemble's pairs.
            beta: the KL weight, 0-dim.

        Raises:
            UserError: if an engine that was asked for by name cannot be made, see :meth:`compile`.
        """
        beta = beta.to(self._factor.dtype)  # an unguarded graph would read the bits of an integer as a number's
        if self.name != "eager" and self._graph is None and self.batch_size in (None, self._count(index)):
            self.compile(index)
        if self._graph is not None and _describe(index) == self._signature:
            return self._graph(*index, beta)
        return self.pair.step(*self.gather(*index), beta)

    def compile(self, index: Sequence[Tree]) -> None:
        """Makes the graph for batches like this one; the first step does it otherwise. Changes nothing else.

        Raises:
            UserError: if the pair cannot be traced or compiled; "auto" warns and steps eagerly instead.
        """
        start = time.perf_counter()
        try:
            member, x, y = next(self.pair.per_member(*self.gather(*index)))
            refuse_python_effects(member.objective, x, y)
            self._graph = self._make_graph(index)
        except Exception as error:  # whatever the network's code or a compiler raises
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
            if not isinstance(error, UserError):
                reason = f"tracing or compiling failed: {type(error).__name__}: {reason}"
            if not self.is_automatic:
                raise UserError(f"engine={self.name!r}: {reason}; use engine='eager'") from error
            self._fall_back(reason)
            return
        self._signature = _describe(index)
        self._attributes = self._read_attributes()
        self.compile_seconds = time.perf_counter() - start

    def check_attributes(self) -> None:
        """Compares the attributes of the pairs' modules with those that the graph was made of.

        Raises:
            UserError: if they differ, naming them; "auto" warns and takes the further steps eagerly instead.
        """
        if self._graph is None:
            return
        changed = {
            name
            for before, after in zip(self._attributes, self._read_attributes(), strict=True)
            for name in differences(before, after)
        }
        if not changed:
            return
        reason = f"{', '.join(sorted(changed))} changed in on_epoch, which a compiled step would not follow"
        if not self.is_automatic:
            raise UserError(f"engine={self.name!r}: {reason}; use engine='eager'")
        self._fall_back(reason)

    def _count(self, index: Sequence[Tree]) -> int:
        """Examples in this batch."""
        return first(index[-1]).shape[1 if isinstance(self.pair, Ensemble) else 0]

    def _read_attributes(self) -> list[PythonState]:
        return [attributes(member.objective) for member in self.pair.members]

    def _fall_back(self, reason: str) -> None:
        self.name, self._graph = "eager", None
        warnings.warn(f"engine: stepping eagerly, because {reason}", stacklevel=3)

    def _make_graph(self, index: Sequence[Tree]) -> Step:
        with fork_rng(self._factor):
            # A tracer takes a tensor object that is there twice for one input. A copy might have other strides.
            x, y = map_leaves(Tensor.detach, self.gather(*index))
            compiled = compile_graph(*self.pair.trace(x, y), self._factor, x, y)

            def step(*inputs: Tree) -> StepOutput:
                *index, beta = inputs
                return compiled(*self.gather(*index), beta)

            return CudaGraphStep(step, [*index, torch.ones_like(self._factor)]) if self.name == "cudagraph" else step


def _describe(index: Sequence[Tree]) -> list[Any]:
    """What a graph's inputs must have in common."""
    tensors = [(leaf.shape, leaf.stride(), leaf.dtype, leaf.device) for part in index for leaf in leaves(part)]
    return [*tensors, *map(describe_structure, index)]
