"""What the priors without samples share: no parameters, a shape, and a refusal."""

from __future__ import annotations

import copy

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch.distributions import constraints

__all__ = ["ImproperPrior"]


class ImproperPrior(TorchDistribution):
    """A prior over real weights from which nothing can be drawn. Subclasses give ``log_prob``."""

    arg_constraints: dict = {}
    support = constraints.real
    why_no_samples = "it does not normalise"

    def __init__(self, batch_shape: torch.Size = torch.Size(), validate_args: bool | None = None):
        super().__init__(torch.Size(batch_shape), validate_args=validate_args)

    def sample(self, sample_shape: torch.Size = torch.Size()):
        if _only_shapes_are_read():
            return torch.zeros(self._extended_shape(sample_shape))
        raise NotImplementedError(
            f"{type(self).__name__} has no samples: {self.why_no_samples}. Use a proper prior such as Normal(0., 1.), "
            "or give the weights values (a guide, poutine.condition; for an autoguide, "
            "init_loc_fn=init_to_value(values=model.initial))"
        )

    def expand(self, batch_shape, _instance=None):
        new = copy.copy(self)
        new._batch_shape = torch.Size(batch_shape)
        return new


def _only_shapes_are_read() -> bool:
    """Whether this is the run in which ``Predictive`` learns a model's shapes.

    It makes that run without the guide, with densities masked out, and throws the values away; the runs that count are
    conditioned on the guide's draws, or on nothing, which is a request for prior samples and refused.
    """
    return poutine.get_mask() is False and not any(isinstance(h, ConditionMessenger) for h in _PYRO_STACK)
