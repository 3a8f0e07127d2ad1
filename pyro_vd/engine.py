"""One optimisation step: the objective, its gradient, a check that all is finite, Adam, the projection."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal, get_args

import pyro
import torch
from torch import Tensor, nn

from pyro_vd.elbo import AnalyticELBO
from pyro_vd.handlers import flipout, kl_weight, local_reparam

__all__ = ["Engine", "Noise", "NonFiniteError", "Objective", "parameter_groups"]

Mode = Literal["auto", "eager", "compiled"]
Noise = Literal["local", "flipout", "weights"]
COMPILE_PAYS_AFTER = 5_000  # steps: tracing and compiling cost 10-40 s, a compiled step saves 5-10 ms on a CPU


class NonFiniteError(RuntimeError):
    """A loss or gradient was NaN or infinite; the parameters still hold the last finite state.

    Attributes:
        history: what :attr:`Posterior.history` held: a dict of numbers for every finished epoch.
    """

    def __init__(self, message: str, history: list[dict[str, float]]):
        super().__init__(message)
        self.history = history


class Objective(nn.Module):
    """The training objective of a (model, guide) pair as a module: (x, y, beta) -> (loss, log likelihood, KLs).

    Args:
        model, guide: the pair.
        noise: how the noise is drawn, by ``local_reparam`` ("local"), by ``flipout``, or with the "weights".
        threshold: train-time masking threshold of ``local_reparam``; None for none. A buffer, so that a traced step
            follows :meth:`mask_above`.

    Raises:
        ValueError: for another noise.
    """

    threshold: Tensor

    def __init__(self, model: nn.Module, guide: nn.Module, noise: Noise = "local", threshold: float | None = None):
        super().__init__()
        self.model = model
        self.guide = guide
        if noise not in get_args(Noise):
            raise ValueError(f"noise={noise!r}: noise is one of {', '.join(get_args(Noise))}")
        self.noise = noise
        device = next(guide.parameters()).device
        self.register_buffer("threshold", torch.tensor(math.inf, device=device), persistent=False)
        self.mask_above(threshold)

    def mask_above(self, threshold: float | None) -> None:
        """Sets the train-time masking threshold; None for no masking."""
        self.threshold.fill_(math.inf if threshold is None else threshold)

    def forward(self, x: Tensor, y: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with ExitStack() as handlers:
            if self.noise == "local":
                handlers.enter_context(local_reparam(self.threshold))
            elif self.noise == "flipout":
                handlers.enter_context(flipout())
            handlers.enter_context(kl_weight(beta))
            terms = AnalyticELBO().terms(self.model, self.guide, x, y)
        return terms.loss, terms.log_likelihood, torch.stack(list(terms.kl.values()))


def parameter_groups(objective: Objective, lr: float, lr_scale: dict[str, float]) -> list[dict]:
    """Adam's parameter groups: ``lr_scale`` multiplies the rate of parameters with that word in their dotted name.

    Raises:
        ValueError: for a word that names no parameter.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    unused = set(lr_scale)
    for name, parameter in objective.named_parameters():
        words = [word for word in name.split(".") if word in lr_scale]
        unused -= set(words)
        factor = lr_scale[words[0]] if words else 1.0
        groups.setdefault(factor, []).append(parameter)
    if unused:
        raise ValueError(f"lr_scale names no parameter: {', '.join(sorted(unused))}")
    return [{"params": params, "lr": lr * factor, "base_lr": lr * factor} for factor, params in groups.items()]


class Engine:
    """Steps an objective with Adam, eagerly or through one traced and compiled graph.

    Pyro's handlers run in Python; ``torch.export`` runs them a single time and leaves a graph of tensor operations
    over the same parameters, which ``torch.compile`` fuses. Both engines make the same step in distribution; their
    random numbers differ in order. The traced graph has a fixed batch size, so a smaller last batch steps eagerly.

    Args:
        objective: the module to step.
        groups: Adam's parameter groups, see :func:`parameter_groups`.
        mode: "eager", "compiled", or "auto": compiled where the run is long enough to pay for it and the trace
            succeeds, eager with one warning that says why otherwise.
        steps: planned number of steps, for "auto".

    Attributes:
        mode: what was picked, "eager" or "compiled".
    """

    def __init__(self, objective: Objective, groups: list[dict], mode: Mode = "auto", steps: int = 0):
        if mode not in get_args(Mode):
            raise ValueError(f"engine={mode!r}: engine is one of {', '.join(get_args(Mode))}")
        self.objective = objective
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.mode: Mode = ("compiled" if steps >= COMPILE_PAYS_AFTER else "eager") if mode == "auto" else mode
        self._fall_back = mode == "auto"
        self._compiled: Callable | None = None
        self._batch_size: int | None = None
        self.compile_seconds = 0.0
        self._buffers = [buffer for name, buffer in objective.named_buffers() if name != "threshold"]

    def set_lr(self, factor: float) -> None:
        """Sets every group's learning rate to its base rate times ``factor``."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def step(self, x: Tensor, y: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step; returns detached (loss, log likelihood, KLs, finite). A non-finite step changes no parameter."""
        before = [buffer.clone() for buffer in self._buffers]
        with pyro.validation_enabled(False):
            loss, log_likelihood, kl = self._forward(x, y)(x, y, beta)
            loss.backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        finite = norms.isfinite().all() & loss.detach().isfinite()
        # The fused kernel leaves parameters and moments alone where found_inf is 1, without asking the host.
        self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.step()
        self.objective.guide.project()  # type: ignore[operator]
        for buffer, old in zip(self._buffers, before, strict=True):  # BatchNorm averages before any loss is known
            buffer.copy_(torch.where(finite, buffer, old))
        return loss.detach(), log_likelihood.detach(), kl.detach(), finite

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def _forward(self, x: Tensor, y: Tensor) -> Callable:
        if self.mode == "eager":
            return self.objective
        if self._compiled is None:
            self._compiled, self._batch_size = self._compile(x, y), len(x)
        return self._compiled if len(x) == self._batch_size else self.objective

    def _compile(self, x: Tensor, y: Tensor) -> Callable:
        start = time.perf_counter()
        try:
            compiled = compile_objective(self.objective, x, y)
        except Exception as error:
            if not self._fall_back:
                raise
            self.mode = "eager"
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
            reason = f"{type(error).__name__}: {reason}"
            warnings.warn(f"engine: stepping eagerly, because tracing or compiling failed: {reason}", stacklevel=2)
            return self.objective
        self.compile_seconds = time.perf_counter() - start
        return compiled


def trace_objective(objective: Objective, x: Tensor, y: Tensor) -> nn.Module:
    """The objective as one graph of tensor operations over its own parameters and buffers."""
    beta = torch.ones((), device=x.device)
    with pyro.validation_enabled(False):
        return torch.export.export(objective, (x, y, beta), strict=False).module()


def compile_objective(objective: Objective, x: Tensor, y: Tensor) -> Callable:
    """:func:`trace_objective`, compiled. One call with a backward pass has been made, side effects undone."""
    # Eager random numbers: on a CPU inductor's own are the slower ones.
    compiled = torch.compile(trace_objective(objective, x, y), fullgraph=True, options={"fallback_random": True})
    buffers = copy.deepcopy(dict(objective.named_buffers()))
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), pyro.validation_enabled(False):
        loss, *_ = compiled(x, y, torch.ones((), device=x.device))
        loss.backward()
    for parameter in objective.parameters():
        parameter.grad = None
    with torch.no_grad():
        for name, buffer in objective.named_buffers():
            buffer.copy_(buffers[name])
    return compiled
