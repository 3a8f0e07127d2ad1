"""Every closed-form KL of the library, on one page.

With r = theta^2 / sigma^2 = 1 / alpha:

| q | p | KL(q || p), nats per weight | source |
| --- | --- | --- | --- |
| Gaussian | LogUniform("exact") | 2 * integral_0^sqrt(r/2) Dawson(t) dt | Hron et al. 2018 (analytic form announced) |
| Gaussian | LogUniform("molchanov") | log1p(r)/2 + k1 (1 - sigmoid(k2 - k3 log r)) | Molchanov et al. 2017, eq. 14 |
| Gaussian | LogUniform("kingma") | C + log(r)/2 - c1/r - c2/r^2 - c3/r^3, alpha <= 1 | Kingma et al. 2015, eq. 14 |
| Gaussian | EmpiricalBayes | log1p(r)/2 | Liu et al. 2019; Kharitonov et al. 2018 |
| Gaussian | Normal | log(s/sigma) + (sigma^2 + (theta - m)^2)/(2 s^2) - 1/2 | Kingma and Welling 2014, appendix B |
| InputNoise | any of these | that of its noise variables, each N(1, alpha) or dropped: one per variable | |
| ScaledBernoulli | Flat | 0: the prior is the same mask over a flat theta | Gal and Ghahramani 2016, without decay |
| Delta | LogUniform, EmpiricalBayes | refused: a point under an improper prior has no finite optimum | |

C = (euler_gamma + log 2) / 2, which Kingma's paper leaves open, makes every log-uniform KL the one that vanishes as
alpha grows. "Gaussian" is WeightNormal or torch's Normal. All forms are functions of r alone where the prior is free of
scale, and none takes the logarithm of theta: values and gradients are finite at theta = 0. Kingma's cubic is held at
its value at alpha = 1 beyond it.
"""

import math

import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Distribution, Normal, kl_divergence, register_kl

from pyro_vd.distributions.dawson import dawson_excess
from pyro_vd.distributions.empirical_bayes import EmpiricalBayes
from pyro_vd.distributions.flat import Flat
from pyro_vd.distributions.input_noise import InputNoise
from pyro_vd.distributions.log_uniform import LogUniform
from pyro_vd.distributions.scaled_bernoulli import ScaledBernoulli
from pyro_vd.distributions.weight_normal import WeightNormal

K1, K2, K3 = 0.63576, 1.87320, 1.48695
C1, C2, C3 = 1.161451241083230, -1.502041176441722, 0.586299206427007
EULER_GAMMA = 0.5772156649015329
# Outside these bounds the fit's excess is 0 or K1 to machine precision; inside, r^K3 is a normal float32 number. It is
# written exp(K3 log r) because autograd then needs no second power in the backward pass, and the clamp keeps the
# logarithm's gradient out of r = 0.
R_MIN, R_MAX = 1e-20, 1e25


def _kl_scale_free(inverse_alpha: Tensor) -> Tensor:
    return 0.5 * inverse_alpha.log1p()


def _molchanov_excess(inverse_alpha: Tensor) -> Tensor:
    s = (K3 * inverse_alpha.clamp(R_MIN, R_MAX).log()).exp()
    return K1 * s / (s + math.exp(K2))


def _kl_molchanov(inverse_alpha: Tensor) -> Tensor:
    return _kl_scale_free(inverse_alpha) + _molchanov_excess(inverse_alpha)


def _kl_exact(inverse_alpha: Tensor) -> Tensor:
    return _kl_scale_free(inverse_alpha) + dawson_excess(inverse_alpha)


def _kl_kingma(inverse_alpha: Tensor) -> Tensor:
    # Beyond alpha = 1 the cubic runs to minus infinity; it stays at its value there instead.
    inverse_alpha = inverse_alpha.clamp(min=1.0)
    alpha = inverse_alpha.reciprocal()
    return 0.5 * (EULER_GAMMA + math.log(2)) + 0.5 * inverse_alpha.log() - alpha * (C1 + alpha * (C2 + alpha * C3))


LOG_UNIFORM_KL = {"molchanov": _kl_molchanov, "exact": _kl_exact, "kingma": _kl_kingma}


@register_kl(WeightNormal, LogUniform)
def _kl_weight_normal_log_uniform(q: WeightNormal, p: LogUniform) -> Tensor:
    return LOG_UNIFORM_KL[p.kl](q.inverse_alpha)


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


@register_kl(InputNoise, LogUniform)
@register_kl(InputNoise, EmpiricalBayes)
@register_kl(InputNoise, Flat)
def _kl_input_noise(q: InputNoise, p: LogUniform | EmpiricalBayes | Flat) -> Tensor:
    try:
        return kl_divergence(q.noise, p)
    except NotImplementedError:
        raise NotImplementedError(
            f"noise {type(q.noise).__name__} on the inputs does not go with {type(p).__name__}: ScaledBernoulli goes "
            "with Flat, N(1, alpha) with LogUniform or EmpiricalBayes"
        ) from None


@register_kl(InputNoise, Distribution)
def _kl_input_noise_weights(q: InputNoise, p: Distribution) -> Tensor:
    raise NotImplementedError(
        f"input noise makes weights that share a variable, so their KL to {type(p).__name__} over weights is infinite; "
        "choose a prior on the noise (LogUniform or EmpiricalBayes; Flat for ScaledBernoulli)"
    )


@register_kl(ScaledBernoulli, Flat)
def _kl_scaled_bernoulli_flat(q: ScaledBernoulli, p: Flat) -> Tensor:
    return torch.zeros_like(q.p)


@register_kl(Delta, LogUniform)
@register_kl(Delta, EmpiricalBayes)
def _kl_delta_scale_free(q: Delta, p: LogUniform | EmpiricalBayes) -> Tensor:
    raise NotImplementedError(
        f"a point estimate under {type(p).__name__} has no finite optimum: give the weights noise "
        "(guides.sparse, guides.hierarchical) or a proper or flat prior"
    )


def _weight_normal(q: Normal) -> WeightNormal:
    return WeightNormal(q.loc, log_sigma2=2 * torch.log(q.scale))
