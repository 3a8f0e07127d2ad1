"""The L0 penalty as a prior."""

import math

import torch

from pyro_vd.errors import UserError
from pyro_vd.priors._improper import NoisePrior

__all__ = ["L0"]


class L0(NoisePrior):
    """A cost per non-zero weight: with hard-concrete gates the "KL" is cost times the expected number of weights kept.

    Louizos, Welling and Kingma 2018; their appendix reads it as the bound of a spike-and-slab model whose slab
    costs that much to encode. It has no density.

    Args:
        cost: nats per kept weight, at least 0 (the paper's lambda times the number of training examples).

    Raises:
        UserError: for a negative or infinite cost.
    """

    prior_of = "the number of open gates"

    def __init__(self, cost: float = 0.1, batch_shape: torch.Size = torch.Size(), validate_args: bool | None = None):
        if not 0 <= cost < math.inf:
            raise UserError(f"L0(cost={cost}): cost must be a finite number of nats per weight, at least 0")
        self.cost = cost
        super().__init__(batch_shape, validate_args)
