"""CudaGraphStep: a step as a CUDA graph. Unproven: no GPU has run this file yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_vd.inference.engine.compiled_step import StepOutput

__all__ = ["CudaGraphStep"]


class CudaGraphStep:
    """A step whose kernels were captured once and start, at every further step, by one call from the host, beside
    the copies of its inputs and outcome.

    A capture runs nothing, so it changes no parameter. What the step reads has to stay where it is: its inputs are
    copied to where they were at the capture. Random numbers go on from call to call, for PyTorch registers its
    generator with a capture.

    Args:
        step: the step, which has run before on this device and asks the host for nothing.
        inputs: tensors like those of the steps to come.
    """

    def __init__(self, step: Callable[..., StepOutput], inputs: Sequence[Tensor]):
        self._step = step  # whose constants and state the kernels read: nobody else may hold them
        self._inputs = [value.clone() for value in inputs]
        self._graph = torch.cuda.CUDAGraph()
        self._device = inputs[0].device
        # A stream of the inputs' device: the one that torch would take is of the device that was current first.
        with torch.cuda.device(self._device), torch.cuda.graph(self._graph, stream=torch.cuda.Stream(self._device)):
            self._outcome = step(*self._inputs)

    def __call__(self, *inputs: Tensor) -> StepOutput:
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        with torch.cuda.device(self._device):
            self._graph.replay()
        return StepOutput(*(value.clone() for value in self._outcome))  # the next replay writes over its own
