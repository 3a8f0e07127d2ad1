"""The hierarchical prior w ~ N(0, v) with a hyperprior on its variance v, integrated out."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

import torch
from pyro.distributions import InverseGamma
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_vd.errors import UserError
from pyro_vd.priors.sharing import Share, check_share, shared_dims

__all__ = ["HierarchicalNormal"]


class HierarchicalNormal(TorchDistribution):
    r"""Zero-mean Gaussian whose variance v has an inverse gamma hyperprior: :math:`w \sim \mathcal N(0, v)`,
    :math:`v \sim \mathrm{InvGamma}(a, b)`, with one v for each weight, input unit or layer.

    v is integrated out. The weights that share it are then a multivariate Student t with 2a degrees of freedom and
    scale :math:`\sqrt{b / a}`, a proper prior. From a Gaussian posterior, the KL of the n weights of a group is that of
    weights and v together, with the best posterior of v, :math:`\mathrm{InvGamma}(a + n/2, b + S/2)` for
    :math:`S = \sum \theta^2 + \sigma^2` (conjugate variational inference, Bishop 2006, section 10.3):

    .. math:: (a + \tfrac n2) \log(b + \tfrac S2) - a \log b + \log\Gamma(a) - \log\Gamma(a + \tfrac n2)
              - \tfrac12 \sum \log \sigma^2 - \tfrac n2

    It is an upper bound on the KL to the Student t. As a and b go to 0 it becomes that of :class:`EmpiricalBayes` with
    the same share, up to a constant. :meth:`variance_posterior` gives the posterior of v.

    Args:
        concentration: a, above 0.
        rate: b, above 0, in the squared unit of the weights.
        share: one v per ``"weight"``, per input ``"unit"`` or channel, or per ``"layer"``.
        dim: which dimension of the weight counts the units: 1 for linear and convolution layers, 0 for transposed ones.

    Raises:
        UserError: for another share, a ``dim`` that is not a whole number, and for numbers that are not above 0.

    Example:
        >>> from pyro_vd.posteriors import WeightNormal
        >>> q = WeightNormal(torch.tensor([[0.3, -0.2]]), log_alpha=torch.tensor([[-2.0, -2.0]]))
        >>> prior = HierarchicalNormal(share="layer")
        >>> round(torch.distributions.kl_divergence(q, prior.expand((1, 2))).sum().item(), 3)
        3.46
        >>> prior.variance_posterior(q).mean
        tensor([[0.0838]])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real

    def __init__(
        self,
        concentration: float = 1.0,
        rate: float = 0.01,
        share: Share = "layer",
        dim: int = 1,
        batch_shape: torch.Size = torch.Size(),
        validate_args: bool | None = None,
    ):
        check_share("HierarchicalNormal", share, dim)
        self.concentration = _read_positive("concentration", concentration)
        self.rate = _read_positive("rate", rate)
        self.share = share
        self.dim = dim
        super().__init__(torch.Size(batch_shape), validate_args=validate_args)

    def shared_dims(self, ndim: int) -> list[int]:
        """The dimensions of a weight of ``ndim`` dimensions along which one variance is shared."""
        return shared_dims("HierarchicalNormal", self.share, self.dim, ndim)

    def variance_posterior(self, q: Any) -> InverseGamma:
        """The posterior of the variances, given that of the weights; shared dimensions have size 1.

        Args:
            q: posterior of a site's weights, as ``guide.q(site)`` gives it, with ``mean`` and ``variance``.
        """
        moment = q.mean.square() + q.variance
        dims = self.shared_dims(moment.ndim)
        count = math.prod(moment.shape[dim] for dim in dims)
        rate = self.rate + 0.5 * (moment.sum(dims, keepdim=True) if dims else moment)
        return InverseGamma(torch.full_like(rate, self.concentration + 0.5 * count), rate)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        group = list(self.batch_shape)
        for dim in self.shared_dims(len(group)):
            group[dim] = 1
        numbers = torch.tensor(self.concentration), torch.tensor(self.rate)
        variance: Tensor = InverseGamma(*numbers).sample(torch.Size(sample_shape) + torch.Size(group))
        return variance.sqrt() * torch.randn(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the weights of a group, divided by their number: the sum over the weights is the log density
        of all."""
        if self._validate_args:
            self._validate_sample(value)
        ndim = len(self.batch_shape)
        dims = [dim - ndim for dim in self.shared_dims(ndim)]  # from the right, as draws are on the left
        count = math.prod(self.batch_shape[dim] for dim in dims)
        square = value.square().sum(dims, keepdim=True) if dims else value.square()
        shape = self.concentration + 0.5 * count
        log_norm = math.lgamma(shape) - math.lgamma(self.concentration) + self.concentration * math.log(self.rate)
        joint: Tensor = log_norm - 0.5 * count * math.log(2 * math.pi) - shape * (self.rate + 0.5 * square).log()
        per_weight: Tensor = (joint / count).expand_as(value)
        return per_weight

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> HierarchicalNormal:
        return HierarchicalNormal(
            self.concentration, self.rate, self.share, self.dim, torch.Size(batch_shape), self._validate_args
        )


def _read_positive(name: str, value: SupportsFloat) -> float:
    if isinstance(value, bool) or not (isinstance(value, SupportsFloat) and 0 < float(value) < math.inf):
        raise UserError(
            f"HierarchicalNormal: {name}={value!r} must be a finite number above 0; EmpiricalBayes is the limit of 0"
        )
    return float(value)
