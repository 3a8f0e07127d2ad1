"""Every closed-form KL of the library, on one page.

With r = theta^2 / sigma^2 = 1 / alpha:

| q | p | KL(q || p), nats per weight | source |
| --- | --- | --- | --- |
| Gaussian | LogUniform("exact") | 2 * integral_0^sqrt(r/2) Dawson(t) dt | Hron et al. 2018 (analytic form announced) |
| Gaussian | LogUniform("molchanov") | log1p(r)/2 + k1 (1 - sigmoid(k2 - k3 log r)) | Molchanov et al. 2017, eq. 14 |
| Gaussian | EmpiricalBayes | log1p(r)/2 | Liu et al. 2019; Kharitonov et al. 2018 |
| Gaussian | Normal | log(s/sigma) + (sigma^2 + (theta - m)^2)/(2 s^2) - 1/2 | Kingma and Welling 2014, appendix B |
| Delta | LogUniform, EmpiricalBayes | refused: a point under an improper prior has no finite optimum | |

"Gaussian" is WeightNormal or torch's Normal. All forms are functions of r alone where the prior is free of scale, and
none takes the logarithm of theta: values and gradients are finite at theta = 0.
"""

import math

import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Normal, register_kl

from pyro_vd.distributions.dawson import dawson_excess
from pyro_vd.distributions.empirical_bayes import EmpiricalBayes
from pyro_vd.distributions.log_uniform import LogUniform
from pyro_vd.distributions.weight_normal import WeightNormal

K1, K2, K3 = 0.63576, 1.87320, 1.48695
# Outside these bounds the fit's excess is 0 or K1 to machine precision; inside, r^K3 is a normal float32 number. It is
# written exp(K3 log r) because autograd then needs no second power in the backward pass, and the clamp keeps the
# logarithm's gradient out of r = 0.
R_MIN, R_MAX = 1e-20, 1e25


def _kl_scale_free(inverse_alpha: Tensor) -> Tensor:
    return 0.5 * inverse_alpha.log1p()


def _molchanov_excess(inverse_alpha: Tensor) -> Tensor:
    s = (K3 * inverse_alpha.clamp(R_MIN, R_MAX).log()).exp()
    return K1 * s / (s + math.exp(K2))


EXCESS = {"molchanov": _molchanov_excess, "exact": dawson_excess}


@register_kl(WeightNormal, LogUniform)
def _kl_weight_normal_log_uniform(q: WeightNormal, p: LogUniform) -> Tensor:
    r = q.inverse_alpha
    return _kl_scale_free(r) + EXCESS[p.kl](r)


@register_kl(WeightNormal, EmpiricalBayes)
def _kl_weight_normal_empirical_bayes(q: WeightNormal, p: EmpiricalBayes) -> Tensor:
    return _kl_scale_free(q.inverse_alpha)


@register_kl(WeightNormal, Normal)
def _kl_weight_normal_normal(q: WeightNormal, p: Normal) -> Tensor:
    q.check_not_a_point_mass()
    precision = p.scale.pow(-2)
    return 0.5 * (precision * (q.variance + (q.theta - p.loc).square()) - 1 - q.log_sigma2) + p.scale.log()


@register_kl(Normal, LogUniform)
def _kl_normal_log_uniform(q: Normal, p: LogUniform) -> Tensor:
    return _kl_weight_normal_log_uniform(_weight_normal(q), p)


@register_kl(Normal, EmpiricalBayes)
def _kl_normal_empirical_bayes(q: Normal, p: EmpiricalBayes) -> Tensor:
    return _kl_weight_normal_empirical_bayes(_weight_normal(q), p)


@register_kl(Delta, LogUniform)
@register_kl(Delta, EmpiricalBayes)
def _kl_delta_scale_free(q: Delta, p: LogUniform | EmpiricalBayes) -> Tensor:
    raise NotImplementedError(
        f"a point estimate under {type(p).__name__} has no finite optimum: give the weights noise "
        "(guides.sparse, guides.hierarchical) or a proper or flat prior"
    )


def _weight_normal(q: Normal) -> WeightNormal:
    return WeightNormal(q.loc, log_sigma2=2 * torch.log(q.scale))
