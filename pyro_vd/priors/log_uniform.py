"""The log-uniform weight prior p(log|w|) = const of variational dropout. It is improper."""

from typing import Literal, get_args

import torch
from torch import Tensor

from pyro_vd.errors import UserError
from pyro_vd.priors._improper import ImproperPrior

__all__ = ["LogUniform"]

Form = Literal["molchanov", "exact", "kingma"]

# log p(w) = LOG_DENSITY_CONSTANT - log|w| is the member of the improper family for which KL(q || p) -> 0 as
# alpha -> infinity: -(1 + log 2 pi) / 2 - (euler_gamma + log 2) / 2.
LOG_DENSITY_CONSTANT = -2.0541199559354117


class LogUniform(ImproperPrior):
    r"""Log-uniform prior, :math:`p(w) \propto 1 / |w|`: the only prior whose KL from N(theta, alpha theta^2) is free
    of theta (Kingma et al. 2015, appendix C).

    The prior does not normalize, so it has no samples. The posterior over weights is in general improper too: sparsity
    is a property of the variational objective, not of Bayes' rule (Hron et al. 2018).

    Args:
        kl: ``"molchanov"`` for the fit of Molchanov et al. 2017, eq. 14 (within 0.0094 nats of exact), the one
            behind the published numbers; ``"exact"`` for the closed form through Dawson's function; ``"kingma"`` for
            the cubic of Kingma et al. 2015, eq. 14, which holds for alpha <= 1 only: schemes with larger alphas refuse
            it.

    Raises:
        UserError: for any other ``kl``.

    Example:
        >>> import torch
        >>> LogUniform().log_prob(torch.tensor([0.5, -0.5]))
        tensor([-1.3610, -1.3610])
    """

    def __init__(
        self, kl: Form = "molchanov", batch_shape: torch.Size = torch.Size(), validate_args: bool | None = None
    ):
        if kl not in get_args(Form):
            raise UserError(f"LogUniform(kl={kl!r}): kl must be one of {', '.join(map(repr, get_args(Form)))}")
        self.kl = kl
        super().__init__(batch_shape, validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        return LOG_DENSITY_CONSTANT - value.abs().log()
