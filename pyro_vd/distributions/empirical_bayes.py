"""The hierarchical prior w ~ N(0, gamma) with gamma optimised out per weight."""

from torch import Tensor

from pyro_vd.distributions.improper import ImproperPrior
from pyro_vd.distributions.no_density import NoDensity

__all__ = ["EmpiricalBayes"]


class EmpiricalBayes(ImproperPrior):
    r"""Zero-mean Gaussian whose variance gamma is set, weight by weight, to the value that minimises the KL.

    At the optimum :math:`\gamma^* = \theta^2 + \sigma^2` and

    .. math:: \mathrm{KL} = \tfrac12 \log(1 + 1/\alpha),

    which is both hierarchical variational dropout (Liu et al. 2019, https://arxiv.org/abs/1811.07533) and automatic
    relevance determination (Kharitonov et al. 2018, https://arxiv.org/abs/1811.00596). gamma depends on the posterior,
    so the prior has no density of its own: ``log_prob`` gives a :class:`NoDensity`, which an analytic-KL objective
    never touches and a Monte Carlo objective refuses by name.

    Example:
        >>> import torch
        >>> from pyro_vd.distributions import WeightNormal
        >>> q = WeightNormal(torch.tensor(1.0), log_alpha=torch.tensor(0.0))
        >>> torch.distributions.kl_divergence(q, EmpiricalBayes())
        tensor(0.3466)
    """

    why_no_samples = "its variance depends on the posterior"

    def log_prob(self, value: Tensor) -> NoDensity:
        return NoDensity("EmpiricalBayes", value.shape)
