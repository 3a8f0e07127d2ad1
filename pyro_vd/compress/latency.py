"""Latency: the target of a network that answers within a time, measured on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from pyro_vd.compress.targets import Candidate, call_network, is_number, read_inputs
from pyro_vd.errors import UserError
from pyro_vd.pytree import Tree, call

__all__ = ["Latency"]

SECONDS = 0.2  # of timing for one measurement


@dataclass(frozen=True)
class Latency:
    """The shrunk network answers to the inputs ``x`` within so many seconds on this machine.

    The time is the median of calls without gradients, on the device of ``x`` and with PyTorch's number of threads. It
    depends on what else the machine does, so leave a margin, and measure the result again. Fewer units make a network
    faster, and zeros alone do not, so take a scheme that prunes units.

    Args:
        most: seconds for one call, above 0.
        x: inputs of one call, as they will come: one example or a batch.

    Raises:
        UserError: for another number, and for inputs that are not tensors, or of no example; later for a network that
            cannot be shrunk, or that does not take ``x``.

    Example:
        >>> Latency(1e-3, torch.zeros(1, 784))
        Latency(most=0.001)
    """

    most: float
    x: Tree = field(repr=False)

    def __post_init__(self) -> None:
        if not (is_number(self.most) and 0 < self.most < float("inf")):
            raise UserError(f"{self}: give the seconds for one call, a finite number above 0")
        object.__setattr__(self, "x", read_inputs(self, self.x))

    def measure(self, candidate: Candidate) -> float:
        """Seconds for one call."""
        return time_call(candidate.net, self.x)

    def is_reached(self, measured: float) -> bool:
        return measured <= self.most


@torch.no_grad()
def time_call(net: nn.Module, x: Tree) -> float:
    """Median seconds of ``net(x)``."""
    call_network("Latency", net, x)
    from torch.utils.benchmark import Timer  # it looks for a CUDA compiler when it is imported, and may warn

    timer = Timer("call(net, x)", globals={"call": call, "net": net, "x": x}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=SECONDS).median)
