"""Engine: makes the steps of a fit, eagerly or as one compiled graph."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Literal, get_args

import pyro
import torch
from torch import Tensor

from pyro_vd.engine.objective import Objective
from pyro_vd.engine.optimizer import BETAS, EPS
from pyro_vd.engine.step import Outcome, trace_step

__all__ = ["COMPILE_PAYS_AFTER", "Engine", "Mode"]

Mode = Literal["auto", "eager", "compiled"]
COMPILE_PAYS_AFTER = 5_000  # steps: tracing and compiling cost 30-45 s, a compiled step saves 10-60 ms on two CPU cores


class Engine:
    """Steps an objective with Adam, eagerly or as one compiled graph.

    Pyro's handlers, autograd and the optimizer's loop over parameters are Python that does the same at every step.
    Compiled, they run once: ``pyro_vd.engine.step`` leaves one graph of tensor operations over the same parameters and
    the same moments. Both engines make the same step in distribution. The graph has a fixed batch size, so a smaller
    last batch steps eagerly.

    Args:
        objective: the module to step.
        groups: Adam's parameter groups, see :func:`parameter_groups`.
        mode: "eager", "compiled", or "auto": compiled where the run is long enough to pay for it and the trace
            succeeds, eager with one warning that says why otherwise.
        steps: planned number of steps, for "auto".

    Attributes:
        mode: what was picked, "eager" or "compiled".
        compile_seconds: what tracing and compiling took.
    """

    def __init__(self, objective: Objective, groups: list[dict], mode: Mode = "auto", steps: int = 0):
        if mode not in get_args(Mode):
            raise ValueError(f"engine={mode!r}: engine is one of {', '.join(get_args(Mode))}")
        self.objective = objective
        objective.guide.project()  # type: ignore[operator]  # steps keep what is inside there
        self._parameters = list(objective.parameters())
        self._buffers = list(objective.statistics().values())
        self.optimizer = torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=True)
        self.mode: Mode = ("compiled" if steps >= COMPILE_PAYS_AFTER else "eager") if mode == "auto" else mode
        self._fall_back = mode == "auto"
        self._factor = torch.ones((), device=objective.threshold.device)
        self._compiled: Callable[[Tensor, Tensor, Tensor], Outcome] | None = None
        self._signature: tuple | None = None
        self.compile_seconds = 0.0

    def set_lr(self, factor: float) -> None:
        """Sets every group's learning rate to its base rate times ``factor``."""
        self._factor.fill_(factor)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def step(self, x: Tensor, y: Tensor, beta: Tensor) -> Outcome:
        """One step, with ``beta`` the KL weight as a 0-dim tensor. A non-finite step changes nothing."""
        beta = beta.to(self._factor.dtype)  # an unguarded graph would read the bits of an integer as a number's
        if self.mode == "compiled" and self._compiled is None:
            self.compile(x, y)
        if self._compiled is not None and _signature(x, y) == self._signature:
            return self._compiled(x, y, beta)
        return self._eager(x, y, beta)

    def trained(self) -> list[str]:
        """Names of the parameters that ``Outcome.finite`` speaks of, in its order; known after a step."""
        return [name for name, parameter in self.objective.named_parameters() if parameter in self.optimizer.state]

    def _eager(self, x: Tensor, y: Tensor, beta: Tensor) -> Outcome:
        before = [buffer.clone() for buffer in self._buffers]
        with pyro.validation_enabled(False):
            loss, log_likelihood, _ = self.objective(x, y, beta)
            loss.backward()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        finite = torch.stack([loss.detach(), *torch._foreach_norm(gradients)]).isfinite()
        go = finite.all()
        # The fused kernel leaves parameters and moments alone where found_inf is 1, without asking the host.
        self.optimizer.found_inf = (~go).float()  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.objective.guide.project()  # type: ignore[operator]
        for buffer, old in zip(self._buffers, before, strict=True):  # BatchNorm averages before any loss is known
            buffer.copy_(torch.where(go, buffer, old))
        return Outcome(log_likelihood.detach(), finite)

    def compile(self, x: Tensor, y: Tensor) -> None:
        """Compiles the step for batches like this one; the first step does it otherwise. Changes nothing else."""
        start = time.perf_counter()
        try:
            self._compiled = compile_step(self.objective, self.optimizer, self._factor, x, y)
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
    objective: Objective, optimizer: torch.optim.Adam, factor: Tensor, x: Tensor, y: Tensor
) -> Callable[[Tensor, Tensor, Tensor], Outcome]:
    """``pyro_vd.engine.step``'s graph, compiled. Nothing is changed and no random number used up."""
    graph, state = trace_step(objective, optimizer, x, y)
    # The engine looks at what it passes, so guards would look twice. Eager random numbers and a wrapper in C++: on a
    # CPU inductor's own numbers are the slower ones, and a wrapper in Python costs a tenth of a small network's step.
    options: dict[str, str | int | bool | Callable] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    if not x.is_cuda:
        options |= {"fallback_random": True, "cpp_wrapper": True}
    compiled = torch.compile(graph, fullgraph=True, dynamic=False, options=options)

    @torch.no_grad()
    def step(x: Tensor, y: Tensor, beta: Tensor) -> Outcome:
        return Outcome(*compiled(state, x, y, beta, factor))

    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad():
        compiled(state.clone(), x, y, torch.ones_like(factor), factor)
    return step


def _signature(x: Tensor, y: Tensor) -> tuple:
    return tuple((tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in (x, y))
