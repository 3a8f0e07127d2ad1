"""What the priors without samples share: no parameters, a shape, and a refusal."""

from __future__ import annotations

import copy

import torch
from pyro.distributions.torch_distribution import TorchDistribution
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
        raise NotImplementedError(
            f"{type(self).__name__} has no samples: {self.why_no_samples}. Use a proper prior such as Normal(0., 1.), "
            "or give the weights values (a guide, poutine.condition; for an autoguide, "
            "init_loc_fn=init_to_value(values=model.initial))"
        )

    def expand(self, batch_shape, _instance=None):
        new = copy.copy(self)
        new._batch_shape = torch.Size(batch_shape)
        return new
