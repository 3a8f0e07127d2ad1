"""Engine: makes the steps of a fit, of one pair or of many at once, eagerly or as one compiled graph."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from pyro_vd.engine.replica import Replica
from pyro_vd.engine.step import Outcome, copy_of, untouched_randomness
from pyro_vd.engine.together import trace_together

__all__ = ["COMPILE_PAYS_AFTER", "Engine", "Mode"]

Mode = Literal["auto", "eager", "compiled"]
COMPILE_PAYS_AFTER = 5_000  # steps: tracing and compiling cost 30-45 s, a compiled step saves 10-60 ms on two CPU cores


class Engine:
    """Steps pairs with Adam, eagerly or as one compiled graph.

    Pyro's handlers, autograd and the optimizer's loop over parameters are Python that does the same at every step.
    Compiled, they run once: ``pyro_vd.engine.step`` leaves one graph of tensor operations over the same parameters and
    the same moments, and ``pyro_vd.engine.together`` widens it to many pairs. Both engines make the same step in
    distribution. The graph has a fixed batch size, so a smaller last batch steps eagerly, one pair after the other.

    Args:
        replicas: the pairs in training; where several, alike in all but the values of their tensors.
        mode: "eager", "compiled", or "auto": compiled where the run is long enough to pay for it and the trace
            succeeds, eager with one warning that says why otherwise.
        steps: planned number of steps, for "auto".
        batch_size: of the batches to compile for; None for that of the first. A resumed run may start with a smaller.

    Attributes:
        mode: what was picked, "eager" or "compiled".
        compile_seconds: what tracing and compiling took.
    """

    def __init__(self, replicas: Sequence[Replica], mode: Mode = "auto", steps: int = 0, batch_size: int | None = None):
        if mode not in get_args(Mode):
            raise ValueError(f"engine={mode!r}: engine is one of {', '.join(get_args(Mode))}")
        self.replicas = list(replicas)
        self.mode: Mode = ("compiled" if steps >= COMPILE_PAYS_AFTER else "eager") if mode == "auto" else mode
        self.batch_size = batch_size
        self._fall_back = mode == "auto"
        self._factor = torch.ones((), device=self.replicas[0].objective.threshold.device)
        self._compiled: Callable[[Tensor, Tensor, Tensor], Outcome] | None = None
        self._signature: tuple | None = None
        self.compile_seconds = 0.0

    def set_lr(self, factor: float) -> None:
        """Sets every learning rate to its base rate times ``factor``."""
        self._factor.fill_(factor)
        for replica in self.replicas:
            replica.set_lr(factor)

    def mask_above(self, threshold: float | None) -> None:
        """Sets the train-time masking threshold; None for no masking."""
        for replica in self.replicas:
            replica.objective.mask_above(threshold)

    def step(self, x: Tensor, y: Tensor, beta: Tensor) -> Outcome:
        """One step of every pair. A step that is not finite changes nothing of its pair.

        Args:
            x, y: a batch for every pair, shape (pairs, batch, ...).
            beta: the KL weight, 0-dim.

        Returns:
            The outcomes, shape (pairs,) and (pairs, flags).
        """
        beta = beta.to(self._factor.dtype)  # an unguarded graph would read the bits of an integer as a number's
        if self.mode == "compiled" and self._compiled is None and self.batch_size in (None, x.shape[1]):
            self.compile(x, y)
        if self._compiled is not None and _signature(x, y) == self._signature:
            return self._compiled(x, y, beta)
        outcomes = [one.step(its_x, its_y, beta) for one, its_x, its_y in zip(self.replicas, x, y, strict=True)]
        return Outcome(*map(torch.stack, zip(*outcomes, strict=True)))

    def compile(self, x: Tensor, y: Tensor) -> None:
        """Compiles the step for batches like these; the first step does it otherwise. Changes nothing else."""
        start = time.perf_counter()
        try:
            self._compiled = compile_step(self.replicas, self._factor, x, y)
        except Exception as error:
            if not self._fall_back:
                raise
            self.mode = "eager"
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
            reason = f"{type(error).__name__}: {reason}"
            warnings.warn(f"engine: stepping eagerly, because tracing or compiling failed: {reason}", stacklevel=3)
            return
        self._signature = _signature(x, y)
        self.compile_seconds = time.perf_counter() - start


def compile_step(
    replicas: Sequence[Replica], factor: Tensor, x: Tensor, y: Tensor
) -> Callable[[Tensor, Tensor, Tensor], Outcome]:
    """``pyro_vd.engine.together``'s graph, compiled. Nothing is changed and no random number used up."""
    graph, state = trace_together(replicas, x, y)
    # The engine looks at what it passes, so guards would look twice. Eager random numbers and a wrapper in C++: on a
    # CPU inductor's own numbers are the slower ones, and a wrapper in Python costs a tenth of a small network's step.
    options: dict[str, str | int | bool | Callable] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    if not x.is_cuda:
        options |= {"fallback_random": True, "cpp_wrapper": True}
    compiled = torch.compile(graph, fullgraph=True, dynamic=False, options=options)

    @torch.no_grad()
    def step(x: Tensor, y: Tensor, beta: Tensor) -> Outcome:
        return Outcome(*compiled(state, x, y, beta, factor))

    with untouched_randomness(x), torch.no_grad():
        compiled(state.map(copy_of), x, y, torch.ones_like(factor), factor)
    return step


def _signature(x: Tensor, y: Tensor) -> tuple:
    return tuple((tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in (x, y))
