"""The factor of concrete dropout: that of ordinary dropout, relaxed so that its probability has a gradient."""

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

__all__ = ["ScaledConcrete"]


class ScaledConcrete(TorchDistribution):
    r"""(1 - s) / (1 - p), where the relaxed drop s is concrete with probability p (Gal, Hron, Kendall 2017).

    .. math:: s = \mathrm{sigmoid}\big((\operatorname{logit} p + \operatorname{logit} u) / t\big), \quad u \sim U(0, 1)

    Mean, variance p / (1 - p) and entropy are those of the Bernoulli variable that it relaxes: exact as t goes to 0,
    and close at the paper's t.

    Args:
        logit_p: logit of the drop probability, any shape.
        temperature: t above 0; the relaxation becomes exact as it goes to 0. The paper's code has 0.1.

    Example:
        >>> ScaledConcrete(torch.zeros(1)).variance
        tensor([1.])
    """

    arg_constraints = {"logit_p": constraints.real}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, logit_p: Tensor, temperature: float = 0.1, validate_args: bool | None = None):
        self.logit_p, self.temperature = logit_p, temperature
        super().__init__(logit_p.shape, validate_args=validate_args)

    @property
    def p(self) -> Tensor:
        """Drop probability."""
        return self.logit_p.sigmoid()

    @property
    def mean(self) -> Tensor:
        return torch.ones_like(self.logit_p)

    @property
    def variance(self) -> Tensor:
        return self.logit_p.exp()

    def entropy(self) -> Tensor:
        """In nats, between 0 and log 2."""
        return F.softplus(self.logit_p) - self.p * self.logit_p

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        u = torch.rand(shape, dtype=self.logit_p.dtype, device=self.logit_p.device)
        s = ((self.logit_p + torch.logit(u, eps=torch.finfo(u.dtype).eps)) / self.temperature).sigmoid()
        return (1 - s) * (1 + self.logit_p.exp())  # 1 / (1 - p)
