"""CudaGraphStep: a step as a CUDA graph. Unproven: no GPU has run this file yet, so "auto" never picks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from pyro_vd.inference.engine.step_output import StepOutput
from pyro_vd.pytree import Tree, first, map_leaves

__all__ = ["CudaGraphStep"]


class CudaGraphStep:
    """A step whose kernels are captured once. Every further step starts all of them by one call from the host, besides
    the copies of its inputs and output.

    A capture runs nothing, so it changes no parameter. What the step reads must stay at its address, so inputs are
    copied to the addresses of the capture. Random numbers differ from call to call, because PyTorch registers its
    generator with a capture.

    Args:
        step: the step. It has run before on this device, and it asks the host for nothing.
        inputs: like those of the steps to come.
    """

    def __init__(self, step: Callable[..., StepOutput], inputs: Sequence[Tree]):
        self._step = step  # keeps alive the constants and the state that the kernels read
        self._inputs = map_leaves(torch.clone, list(inputs))
        self._graph = torch.cuda.CUDAGraph()
        self._device = first(inputs).device
        # A stream of the inputs' device: torch's default would be of the device that was current first.
        with torch.cuda.device(self._device):
            stream = cast(Callable[..., torch.cuda.Stream], torch.cuda.Stream)(self._device)  # torch left it untyped
            with torch.cuda.graph(self._graph, stream=stream):
                self._output = step(*self._inputs)

    def __call__(self, *inputs: Tree) -> StepOutput:
        map_leaves(Tensor.copy_, self._inputs, list(inputs))
        with torch.cuda.device(self._device):
            self._graph.replay()
        return StepOutput(*(value.clone() for value in self._output))  # the next replay writes over its own
