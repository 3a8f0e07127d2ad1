"""The flat improper prior: maximum likelihood in a Pyro model."""

import torch
from torch import Tensor

from pyro_vd.priors._improper import ImproperPrior

__all__ = ["Flat"]


class Flat(ImproperPrior):
    """p(w) proportional to 1 on the real line; with a Delta guide the ELBO is the plain log likelihood.

    Example:
        >>> import torch
        >>> Flat().log_prob(torch.tensor([3.0, -1.0]))
        tensor([0., 0.])
    """

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value)
