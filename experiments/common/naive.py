"""Hierarchical variational dropout with three faults of public code, for comparison.

Each fault leads to NaN: the bias enters the variance, the square root has no floor, and the KL is computed through
log(theta^2). The library has none of them; only the accuracy table uses this file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import register_kl

from pyro_vd.guides._gaussian import GaussianGuide
from pyro_vd.handlers import register_local
from pyro_vd.handlers.rules.operations import CONVOLUTIONS
from pyro_vd.posteriors import WeightNormal
from pyro_vd.priors import EmpiricalBayes

__all__ = ["Guide", "prior"]

prior = EmpiricalBayes


class NaiveNormal(WeightNormal):
    """N(theta, sigma^2) with the naive local rule and KL."""


class Guide(GaussianGuide):
    """The guide of :mod:`guides.hierarchical` over naive posteriors."""

    def q(self, site: str) -> NaiveNormal:
        return NaiveNormal(self.theta[site], log_sigma2=self.noise_param[site])


@register_local((NaiveNormal,), F.linear, *CONVOLUTIONS)
def _naive(op, input, weight, bias=None, *args, **kwargs):
    mean = op(input, weight.q.theta, bias, *args, **kwargs)
    variance = op(input.square(), weight.q.variance, bias, *args, **kwargs)
    return mean + variance.sqrt() * torch.randn_like(mean)


@register_kl(NaiveNormal, EmpiricalBayes)
def _kl_naive(q: NaiveNormal, p: EmpiricalBayes) -> Tensor:
    log_alpha = q.log_sigma2 - q.theta.square().log()
    return 0.5 * torch.log(1 + 1 / log_alpha.exp())
