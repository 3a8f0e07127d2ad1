"""The flat improper prior: maximum likelihood in a Pyro model."""

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

__all__ = ["Flat"]


class Flat(TorchDistribution):
    """p(w) proportional to 1 on the real line; with a Delta guide the ELBO is the plain log likelihood.

    Example:
        >>> import torch
        >>> Flat().log_prob(torch.tensor([3.0, -1.0]))
        tensor([0., 0.])
    """

    arg_constraints: dict = {}
    support = constraints.real

    def __init__(self, batch_shape=torch.Size(), validate_args: bool | None = None):
        super().__init__(torch.Size(batch_shape), validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value)

    def sample(self, sample_shape=torch.Size()):
        raise NotImplementedError("Flat is improper and has no samples: choose a proper prior such as Normal(0., 1.)")

    def expand(self, batch_shape, _instance=None):
        return Flat(batch_shape, validate_args=False)
