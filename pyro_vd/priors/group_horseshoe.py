"""The half-Cauchy prior on scales that groups of weights share: for GroupScale posteriors."""

import math

import torch

from pyro_vd.errors import UserError
from pyro_vd.priors._improper import NoisePrior

__all__ = ["GroupHorseshoe"]


class GroupHorseshoe(NoisePrior):
    r"""Half-Cauchy scales: z = s z_g with :math:`s \sim C^+(0, \tau_0)` per layer and :math:`z_g \sim C^+(0, 1)`.

    Each half-Cauchy is the square root of a Gamma times an inverse-Gamma variable (Louizos et al. 2017, section 3.2),
    :math:`s_a \sim \Gamma(1/2, \tau_0^2), s_b \sim \Gamma^{-1}(1/2, 1)`, so that every KL from a log-normal is closed.
    The weights before scaling have N(0, 1).

    Args:
        tau0: scale of the layer's half-Cauchy, above 0; smaller prunes more.

    Raises:
        UserError: for tau0 out of range.
    """

    prior_of = "scales that weights share"

    def __init__(self, tau0: float = 1e-5, batch_shape: torch.Size = torch.Size(), validate_args: bool | None = None):
        if not 0 < tau0 < math.inf:
            raise UserError(f"GroupHorseshoe(tau0={tau0}): tau0 must be a finite number above 0")
        self.tau0 = tau0
        super().__init__(batch_shape, validate_args)
