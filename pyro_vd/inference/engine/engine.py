"""Engine: makes the steps of a fit, of one pair or of many at once, eagerly, compiled, or replayed on a GPU."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.inference.engine.compiled_step import StepOutput, copy_of
from pyro_vd.inference.engine.cuda_graph_step import CudaGraphStep
from pyro_vd.inference.engine.eager_step import EagerStep
from pyro_vd.inference.engine.ensemble import trace_ensemble
from pyro_vd.inference.engine.python_state import State, attributes, differences, refuse_python_effects
from pyro_vd.process_state import fork_rng

__all__ = ["COMPILE_PAYS_AFTER", "Engine", "Mode"]

Mode = Literal["auto", "eager", "compiled", "cudagraph"]
COMPILE_PAYS_AFTER = 5_000  # steps: tracing and compiling cost 30-45 s, a compiled step saves 10-60 ms on two CPU cores
Picked = tuple[Tensor, ...]
Take = Callable[..., tuple[Tensor, Tensor]]
Step = Callable[..., StepOutput]


def identity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The take of batches that are picked as what they are."""
    return x, y


class Engine:
    """Steps pairs with Adam: eagerly, as one compiled graph, or as that graph replayed from a CUDA graph.

    Pyro's handlers, autograd and the optimizer's loop over parameters are Python that does the same at every step.
    Compiled, they run once: ``pyro_vd.inference.engine.compiled_step`` leaves one graph of tensor operations over the same parameters and
    the same moments, and ``pyro_vd.inference.engine.ensemble`` widens it to many pairs. On a GPU a CUDA graph of that, with the
    batch's gathering before it, leaves the host a handful of calls a step. The engines make the same step in
    distribution. A graph has a fixed batch size, so a smaller last batch steps eagerly, one pair after the other.

    Args:
        replicas: the pairs in training; where several, alike in all but the values of their tensors.
        mode: "eager", "compiled", "cudagraph", or "auto": compiled where the run is long enough to pay for it and the
            trace succeeds, eager with one warning that says why otherwise. No GPU has run "cudagraph" yet, so "auto"
            does not pick it.
        steps: planned number of steps, for "auto".
        batch_size: of the batches to compile for; None for that of the first. A resumed run may start with a smaller.
        take: what makes a batch ``(x, y)`` of what :meth:`step` is given of it, indices for one; both with an axis of
            pairs, then one of examples.

    Attributes:
        mode: what was picked, "eager", "compiled" or "cudagraph".
        compile_seconds: what tracing, compiling and capturing took.

    Raises:
        ValueError: for another mode, or a CUDA graph of pairs that are not on a GPU.
        UserError: at the first step, if the mode is not "auto" and the pair cannot be traced or compiled.
    """

    def __init__(
        self,
        replicas: Sequence[EagerStep],
        mode: Mode = "auto",
        steps: int = 0,
        batch_size: int | None = None,
        take: Take = identity,
    ):
        if mode not in get_args(Mode):
            raise ValueError(f"engine={mode!r}: engine is one of {', '.join(get_args(Mode))}")
        self.replicas = list(replicas)
        device = self.replicas[0].objective.threshold.device
        if mode == "cudagraph" and device.type != "cuda":
            raise ValueError(
                f"engine='cudagraph': the model is on {device}; move it to a CUDA device, or use 'compiled'"
            )
        self.mode: Mode = ("compiled" if steps >= COMPILE_PAYS_AFTER else "eager") if mode == "auto" else mode
        self.batch_size = batch_size
        self.take = take
        self.compile_seconds = 0.0
        self._fall_back = mode == "auto"
        self._factor = torch.ones((), device=device)
        self._graph: Step | None = None
        self._signature: tuple | None = None
        self._attributes: list[State] = []  # of every pair, when it was compiled

    def set_lr(self, factor: float) -> None:
        """Sets every learning rate to its base rate times ``factor``."""
        self._factor.fill_(factor)
        for replica in self.replicas:
            replica.set_lr(factor)

    def set_threshold(self, threshold: float | None) -> None:
        """Sets the train-time masking threshold; None for no masking."""
        for replica in self.replicas:
            replica.objective.set_threshold(threshold)

    def step(self, picked: Picked, beta: Tensor) -> StepOutput:
        """One step of every pair. A step that is not finite changes nothing of its pair.

        Args:
            picked: what ``take`` makes a batch for every pair of; by default the batch, (x, y) of shapes
                (pairs, examples, ...).
            beta: the KL weight, 0-dim.

        Returns:
            The outcomes, shape (pairs,) and (pairs, flags).
        """
        beta = beta.to(self._factor.dtype)  # an unguarded graph would read the bits of an integer as a number's
        if self.mode != "eager" and self._graph is None and self.batch_size in (None, picked[0].shape[1]):
            self.compile(picked)
        if self._graph is not None and _signature(picked) == self._signature:
            return self._graph(*picked, beta)
        x, y = self.take(*picked)
        outcomes = [one.step(its_x, its_y, beta) for one, its_x, its_y in zip(self.replicas, x, y, strict=True)]
        return StepOutput(*map(torch.stack, zip(*outcomes, strict=True)))

    def compile(self, picked: Picked) -> None:
        """Makes the graph for batches like this one; the first step does it otherwise. Changes nothing else."""
        start = time.perf_counter()
        try:
            x, y = self.take(*picked)
            refuse_python_effects(self.replicas[0].objective, x[0], y[0])
            self._graph = self._made(picked)
        except Exception as error:  # whatever the network's code or a compiler raises
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
            if not isinstance(error, UserError):
                reason = f"tracing or compiling failed: {type(error).__name__}: {reason}"
            if not self._fall_back:
                raise UserError(f"engine={self.mode!r}: {reason}; use engine='eager'") from error
            self._step_eagerly(reason)
            return
        self._signature = _signature(picked)
        self._attributes = self._attributes_now()
        self.compile_seconds = time.perf_counter() - start

    def check_attributes(self) -> None:
        """Looks whether attributes of the pairs' modules are as they were when the graph was made of them.

        Raises:
            UserError: if they are not, naming them; in mode "auto" the further steps are eager, with a warning.
        """
        if self._graph is None:
            return
        changed = {
            name
            for before, after in zip(self._attributes, self._attributes_now(), strict=True)
            for name in differences(before, after)
        }
        if not changed:
            return
        reason = f"{', '.join(sorted(changed))} changed in on_epoch, which a compiled step would not follow"
        if not self._fall_back:
            raise UserError(f"engine={self.mode!r}: {reason}; use engine='eager'")
        self._step_eagerly(reason)

    def _attributes_now(self) -> list[State]:
        return [attributes(replica.objective) for replica in self.replicas]

    def _step_eagerly(self, reason: str) -> None:
        self.mode, self._graph, self._signature = "eager", None, None
        warnings.warn(f"engine: stepping eagerly, because {reason}", stacklevel=3)

    def _made(self, picked: Picked) -> Step:
        with fork_rng(picked[0]):
            compiled = compile_step(self.replicas, self._factor, *self.take(*picked))

            def step(*inputs: Tensor) -> StepOutput:
                *picked, beta = inputs
                return compiled(*self.take(*picked), beta)

            return CudaGraphStep(step, [*picked, torch.ones_like(self._factor)]) if self.mode == "cudagraph" else step


def compile_step(
    replicas: Sequence[EagerStep], factor: Tensor, x: Tensor, y: Tensor
) -> Callable[[Tensor, Tensor, Tensor], StepOutput]:
    """``pyro_vd.inference.engine.ensemble``'s graph, compiled, and run once on a copy of the state: that is when code is made.
    Changes nothing but torch's generator."""
    graph, state = trace_ensemble(replicas, x, y)
    # The engine looks at what it passes, so guards would look twice. Eager random numbers and a wrapper in C++: on a
    # CPU inductor's own numbers are the slower ones, and a wrapper in Python costs a tenth of a small network's step.
    options: dict[str, str | int | bool | Callable] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    if not x.is_cuda:
        options |= {"fallback_random": True, "cpp_wrapper": True}
    compiled = torch.compile(graph, fullgraph=True, dynamic=False, options=options)

    @torch.no_grad()
    def step(x: Tensor, y: Tensor, beta: Tensor) -> StepOutput:
        return StepOutput(*compiled(state, x, y, beta, factor))

    with torch.no_grad():
        compiled(state.map(copy_of), x, y, torch.ones_like(factor), factor)
    return step


def _signature(tensors: Sequence[Tensor]) -> tuple:
    return tuple((tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in tensors)
