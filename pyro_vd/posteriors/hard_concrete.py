"""The hard-concrete gate: a relaxed Bernoulli variable that is exactly 0 or 1 with positive probability."""

import math

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

__all__ = ["HardConcrete"]

# Louizos, Welling and Kingma 2018, section 4: the stretched interval and the temperature.
LOW, HIGH = -0.1, 1.1
TEMPERATURE = 2 / 3


class HardConcrete(TorchDistribution):
    r"""Gates in [0, 1] (Louizos, Welling, Kingma 2018, https://arxiv.org/abs/1712.01312, section 2.2).

    .. math:: z = \min(1, \max(0, s (\zeta - \gamma) + \gamma)), \quad
              s = \mathrm{sigmoid}\big((\mathrm{logit}\, u + \mathrm{location}) / \beta\big)

    Args:
        location: the paper's log alpha, any shape. It is large for open gates, while dropout's log_alpha is small for
            weights that stay; hence another name.

    Example:
        >>> gate = HardConcrete(torch.tensor([-4.0, 0.0, 4.0]))
        >>> gate.mean, gate.active.round(decimals=2)
        (tensor([0.0000, 0.5000, 1.0000]), tensor([0.0800, 0.8300, 1.0000]))
    """

    arg_constraints = {"location": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, location: Tensor, validate_args: bool | None = None):
        self.location = location
        super().__init__(location.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The paper's gate at test time, which is 0 for a pruned group; not the expectation."""
        return _stretch(self.location.sigmoid())

    @property
    def active(self) -> Tensor:
        """Probability of a gate above 0."""
        return (self.location - TEMPERATURE * math.log(-LOW / HIGH)).sigmoid()

    @property
    def variance(self) -> Tensor:
        """Not known in closed form."""
        return torch.full_like(self.location, math.nan)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        u = torch.rand(shape, dtype=self.location.dtype, device=self.location.device)
        logit = torch.logit(u, eps=torch.finfo(u.dtype).eps)
        return _stretch(((logit + self.location) / TEMPERATURE).sigmoid())


def _stretch(s: Tensor) -> Tensor:
    return (s * (HIGH - LOW) + LOW).clamp(0.0, 1.0)
