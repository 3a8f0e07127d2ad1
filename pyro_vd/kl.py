r"""Every closed-form KL of the library, on one page.

With r = theta^2 / sigma^2 = 1 / alpha:

| q | p | KL(q \|\| p), nats per weight | source |
| --- | --- | --- | --- |
| Gaussian | LogUniform("exact") | 2 * integral_0^sqrt(r/2) Dawson(t) dt | Hron et al. 2018 (analytic form announced) |
| Gaussian | LogUniform("molchanov") | log1p(r)/2 + k1 (1 - sigmoid(k2 - k3 log r)) | Molchanov et al. 2017, eq. 14 |
| Gaussian | LogUniform("kingma") | C + log(r)/2 - c1/r - c2/r^2 - c3/r^3, alpha <= 1 | Kingma et al. 2015, eq. 14 |
| Gaussian | EmpiricalBayes | log1p(r)/2 | Liu et al. 2019; Kharitonov et al. 2018 |
| Gaussian | EmpiricalBayes, shared | log(mean(theta^2 + sigma^2))/2 - log(sigma^2)/2 | the same, by differentiation |
| Gaussian | HierarchicalNormal | that of weights and variances, see the class | Bishop 2006, section 10.3 |
| Gaussian | Normal | log(s/sigma) + (sigma^2 + (theta - m)^2)/(2 s^2) - 1/2 | Kingma and Welling 2014, appendix B |
| Gaussian | Laplace | log 2b + E\|w - m\|/b - log(2 pi e sigma^2)/2 | \|w - m\|: a folded normal (Leone et al. 1961) |
| Gaussian | MonteCarloKL(p) | -log(2 pi e sigma^2)/2 - log p(w), one w ~ q | sampled, asked for by name |
| InputNoise | LogUniform, EmpiricalBayes | that of its noise variables N(1, alpha), one per variable | |
| ScaledBernoulli | Flat | 0: the prior is the same mask over a flat theta | Gal and Ghahramani 2016, without decay |
| ConcreteDropout | Normal(0, s) | sum theta^2/(2 s^2 (1 - p)) + sum (log 2 - H(p)) | Gal, Hron, Kendall 2017 |
| HardConcrete inputs | L0(cost) | cost * weights per gate * P(gate > 0) | Louizos, Welling, Kingma 2018 |
| TruncatedLogNormal inputs | TruncatedLogUniform | of log xi: truncated Gaussian, uniform | Neklyudov et al. 2017 |
| GroupScale | GroupNormalJeffreys | Molchanov's fit per scale + Gaussian to N(0, 1) per weight | Louizos et al. 2017 |
| GroupScale | GroupHorseshoe | log-normal to Gamma and inverse Gamma + the same | Louizos et al. 2017 |
| Delta | LogUniform, EmpiricalBayes | refused: a point under an improper prior has no finite optimum | |

C = (euler_gamma + log 2) / 2, which Kingma's paper leaves open, makes every log-uniform KL the one that vanishes as
alpha grows. "Gaussian" is WeightNormal or torch's Normal. If the prior is scale-free, the KL is a function of r alone.
No form takes the logarithm of theta, so values and gradients are finite at theta = 0. For alpha > 1, Kingma's cubic has
its value at alpha = 1.
"""

import math

import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.distributions import Distribution, Laplace, Normal, kl_divergence, register_kl

from pyro_vd.model.event import base_distribution
from pyro_vd.posteriors.concrete_dropout import ConcreteDropout
from pyro_vd.posteriors.group_scale import GroupScale
from pyro_vd.posteriors.hard_concrete import HardConcrete
from pyro_vd.posteriors.input_noise import InputNoise
from pyro_vd.posteriors.log_normal_scale import LogNormalParameters, LogNormalScale
from pyro_vd.posteriors.scaled_bernoulli import ScaledBernoulli
from pyro_vd.posteriors.truncated_log_normal import TruncatedLogNormal
from pyro_vd.posteriors.weight_normal import WeightNormal
from pyro_vd.priors.empirical_bayes import EmpiricalBayes
from pyro_vd.priors.flat import Flat
from pyro_vd.priors.group_horseshoe import GroupHorseshoe
from pyro_vd.priors.group_normal_jeffreys import GroupNormalJeffreys
from pyro_vd.priors.hierarchical_normal import HierarchicalNormal
from pyro_vd.priors.l0 import L0
from pyro_vd.priors.log_uniform import LogUniform
from pyro_vd.priors.monte_carlo import MonteCarloKL
from pyro_vd.priors.sharing import shared_dims
from pyro_vd.priors.truncated_log_uniform import LOWER, UPPER, TruncatedLogUniform
from pyro_vd.special import dawson_excess

__all__ = ["kl_log_normal_gamma", "kl_log_normal_inverse_gamma", "registered_kl"]

K1, K2, K3 = 0.63576, 1.87320, 1.48695
C1, C2, C3 = 1.161451241083230, -1.502041176441722, 0.586299206427007
EULER_GAMMA = 0.5772156649015329
# Added to r before its logarithm is taken, so that the gradient is finite at r = 0. float32 cannot show the difference:
# a weight of r = 1e-30 has a KL of 5e-31.
R_MIN = 1e-30


def _kl_scale_free(inverse_alpha: Tensor) -> Tensor:
    return 0.5 * inverse_alpha.log1p()


def _molchanov_excess(inverse_alpha: Tensor) -> Tensor:
    return K1 * (K3 * inverse_alpha.log() - K2).sigmoid()


def _kl_molchanov(inverse_alpha: Tensor) -> Tensor:
    inverse_alpha = inverse_alpha + R_MIN
    return _kl_scale_free(inverse_alpha) + _molchanov_excess(inverse_alpha)


def _kl_exact(inverse_alpha: Tensor) -> Tensor:
    return _kl_scale_free(inverse_alpha) + dawson_excess(inverse_alpha)


def _kl_kingma(inverse_alpha: Tensor) -> Tensor:
    # For alpha > 1 the cubic runs to minus infinity; the KL keeps its value at alpha = 1 instead.
    inverse_alpha = inverse_alpha.clamp(min=1.0)
    alpha = inverse_alpha.reciprocal()
    return 0.5 * (EULER_GAMMA + math.log(2)) + 0.5 * inverse_alpha.log() - alpha * (C1 + alpha * (C2 + alpha * C3))


LOG_UNIFORM_KL = {"molchanov": _kl_molchanov, "exact": _kl_exact, "kingma": _kl_kingma}


@register_kl(WeightNormal, LogUniform)
def _kl_weight_normal_log_uniform(q: WeightNormal, p: LogUniform) -> Tensor:
    return LOG_UNIFORM_KL[p.kl](q.inverse_alpha)


@register_kl(WeightNormal, EmpiricalBayes)
def _kl_weight_normal_empirical_bayes(q: WeightNormal, p: EmpiricalBayes) -> Tensor:
    if p.share == "weight":
        return _kl_scale_free(q.inverse_alpha)
    q.check_not_a_point_mass()
    second_moment = q.theta.square() + q.variance
    shared = shared_dims("EmpiricalBayes", p.share, p.dim, q.theta.ndim)
    return 0.5 * (second_moment.mean(shared, keepdim=True).log() - q.log_sigma2)


@register_kl(WeightNormal, HierarchicalNormal)
def _kl_weight_normal_hierarchical(q: WeightNormal, p: HierarchicalNormal) -> Tensor:
    """The KL of a group is divided among its weights."""
    q.check_not_a_point_mass()
    v = p.variance_posterior(q)
    count = q.theta.numel() / v.rate.numel()
    log_norm: Tensor = v.concentration * v.rate.log() - v.concentration.lgamma()
    of_prior = p.concentration * math.log(p.rate) - math.lgamma(p.concentration)
    kl: Tensor = (log_norm - of_prior) / count - 0.5 * (1 + q.log_sigma2)
    return kl


@register_kl(WeightNormal, Laplace)
def _kl_weight_normal_laplace(q: WeightNormal, p: Laplace) -> Tensor:
    q.check_not_a_point_mass()
    distance = q.theta - p.loc
    z = distance / (math.sqrt(2) * q.stddev)
    absolute = q.stddev * math.sqrt(2 / math.pi) * (-z.square()).exp() + distance * z.erf()
    return (2 * p.scale).log() + absolute / p.scale - q.entropy()


@register_kl(WeightNormal, MonteCarloKL)
def _kl_weight_normal_monte_carlo(q: WeightNormal, p: MonteCarloKL) -> Tensor:
    q.check_not_a_point_mass()
    return -q.entropy() - p.log_prob(q.rsample())


@register_kl(Normal, MonteCarloKL)
def _kl_normal_monte_carlo(q: Normal, p: MonteCarloKL) -> Tensor:
    kl: Tensor = _kl_weight_normal_monte_carlo(_weight_normal(q), p)
    return kl


@register_kl(WeightNormal, Normal)
def _kl_weight_normal_normal(q: WeightNormal, p: Normal) -> Tensor:
    q.check_not_a_point_mass()
    precision = p.scale.pow(-2)
    return 0.5 * (precision * (q.variance + (q.theta - p.loc).square()) - 1 - q.log_sigma2) + p.scale.log()


@register_kl(Normal, LogUniform)
def _kl_normal_log_uniform(q: Normal, p: LogUniform) -> Tensor:
    kl: Tensor = _kl_weight_normal_log_uniform(_weight_normal(q), p)
    return kl


@register_kl(Normal, EmpiricalBayes)
def _kl_normal_empirical_bayes(q: Normal, p: EmpiricalBayes) -> Tensor:
    kl: Tensor = _kl_weight_normal_empirical_bayes(_weight_normal(q), p)
    return kl


@register_kl(Normal, HierarchicalNormal)
def _kl_normal_hierarchical(q: Normal, p: HierarchicalNormal) -> Tensor:
    kl: Tensor = _kl_weight_normal_hierarchical(_weight_normal(q), p)
    return kl


@register_kl(InputNoise, LogUniform)
@register_kl(InputNoise, EmpiricalBayes)
@register_kl(InputNoise, Flat)
@register_kl(InputNoise, TruncatedLogUniform)
def _kl_input_noise(q: InputNoise, p: Distribution) -> Tensor:
    return _kl_of_noise(q.noise, p, p)


@register_kl(InputNoise, L0)
def _kl_input_noise_l0(q: InputNoise, p: L0) -> Tensor:
    cost_per_gate = p.cost * q.theta.numel() / q.noise.batch_shape.numel()
    return _kl_of_noise(q.noise, L0(cost_per_gate), p)


@register_kl(HardConcrete, L0)
def _kl_hard_concrete_l0(q: HardConcrete, p: L0) -> Tensor:
    return p.cost * q.active


@register_kl(ConcreteDropout, Normal)
def _kl_concrete_dropout_normal(q: ConcreteDropout, p: Normal) -> Tensor:
    # Every column of weights is a mixture of two narrow Gaussians, one of them at 0 (Gal and Ghahramani 2016,
    # appendix). This is the only input noise whose KL to a prior over weights is finite, up to a constant.
    decay = 0.5 * (q.theta / p.scale).square() * (1 + q.on_weights(q.noise.logit_p).exp())
    return torch.cat([decay.flatten(), math.log(2) - q.noise.entropy()])


@register_kl(InputNoise, Distribution)
def _kl_input_noise_weights(q: InputNoise, p: Distribution) -> Tensor:
    raise NotImplementedError(
        f"under input noise weights share a variable, so their KL to {type(p).__name__} over weights is infinite; "
        f"choose a prior on the noise: {NOISE_PRIORS}"
    )


def _kl_of_noise(noise: Distribution, p: Distribution, prior: Distribution) -> Tensor:
    """KL(noise || p), or NotImplementedError that names the noise and ``prior``, the user's."""
    try:
        return kl_divergence(noise, p)
    except NotImplementedError as error:
        reason = str(error) if not str(error).startswith("No KL") else NOISE_PRIORS
        raise NotImplementedError(
            f"noise {type(noise).__name__} on the inputs does not go with this {type(prior).__name__}: {reason}"
        ) from None


NOISE_PRIORS = (
    "ScaledBernoulli goes with Flat, N(1, alpha) with LogUniform or EmpiricalBayes, ScaledConcrete with Normal, "
    "HardConcrete with L0, TruncatedLogNormal with TruncatedLogUniform"
)


@register_kl(TruncatedLogNormal, TruncatedLogUniform)
def _kl_truncated_log_normal(q: TruncatedLogNormal, p: TruncatedLogUniform) -> Tensor:
    ends = q.lower * _normal_density(q.lower) - q.upper * _normal_density(q.upper)
    log_width = math.log(UPPER - LOWER) - 0.5 * math.log(2 * math.pi * math.e)
    return (log_width - q.sigma.log() - q.log_normalizer - 0.5 * ends / q.log_normalizer.exp()).to(q.mu)


def _normal_density(x: Tensor) -> Tensor:
    return (-0.5 * x.square()).exp() / math.sqrt(2 * math.pi)


@register_kl(GroupScale, GroupNormalJeffreys)
def _kl_group_normal_jeffreys(q: GroupScale, p: GroupNormalJeffreys) -> Tensor:
    return _kl_of_scales_and_weights(q, LogUniform("molchanov"), p)  # 1/|z| is the log-uniform prior, over scales


@register_kl(GroupScale, GroupHorseshoe)
def _kl_group_horseshoe(q: GroupScale, p: GroupHorseshoe) -> Tensor:
    return _kl_of_scales_and_weights(q, p, p)


@register_kl(LogNormalScale, GroupHorseshoe)
def _kl_log_normal_scale_horseshoe(q: LogNormalScale, p: GroupHorseshoe) -> Tensor:
    scales = [
        kl_log_normal_gamma(q.layer_gamma, 2 * math.log(p.tau0)),
        kl_log_normal_inverse_gamma(q.layer_inverse),
        kl_log_normal_gamma(q.unit_gamma, 0.0),
        kl_log_normal_inverse_gamma(q.unit_inverse),
    ]
    return torch.cat(scales)


def _kl_of_scales_and_weights(q: GroupScale, scale_prior: Distribution, prior: Distribution) -> Tensor:
    """KL(scales || scale_prior), then KL(weights before scaling || N(0, 1)), flat."""
    try:
        scales = kl_divergence(q.noise, scale_prior)
    except NotImplementedError:
        raise NotImplementedError(
            f"{type(q.noise).__name__} scales do not go with {type(prior).__name__}: {GROUP_PRIORS}"
        ) from None
    return torch.cat([scales, _kl_standard_normal(q.weight).flatten()])


def _kl_standard_normal(q: WeightNormal) -> Tensor:
    standard = Normal(q.theta.new_zeros(()), q.theta.new_ones(()), validate_args=False)
    kl: Tensor = _kl_weight_normal_normal(q, standard)
    return kl


def kl_log_normal_gamma(q: LogNormalParameters, log_scale: float) -> Tensor:
    """KL of a log-normal variable to Gamma(1/2, scale), nats, shape of the parameters."""
    log_mean = q.mu + 0.5 * q.log_sigma2.exp()
    return (log_mean - log_scale).exp() - 0.5 * (q.mu - log_scale) + _kl_log_normal_constant(q)


def kl_log_normal_inverse_gamma(q: LogNormalParameters) -> Tensor:
    """KL to the inverse Gamma(1/2, 1): the reciprocal's KL to Gamma(1/2, 1), as bijections do not change a KL."""
    return kl_log_normal_gamma(LogNormalParameters(-q.mu, q.log_sigma2), 0.0)


def _kl_log_normal_constant(q: LogNormalParameters) -> Tensor:
    """log Gamma(1/2) minus the entropy of log x."""
    return 0.5 * math.log(math.pi) - 0.5 * (1 + math.log(2 * math.pi) + q.log_sigma2)


@register_kl(GroupScale, Distribution)
def _kl_group_scale(q: GroupScale, p: Distribution) -> Tensor:
    raise NotImplementedError(f"weights with a shared scale do not go with {type(p).__name__}: {GROUP_PRIORS}")


GROUP_PRIORS = (
    "choose GroupNormalJeffreys for Gaussian scales (guides.group_normal_jeffreys) or GroupHorseshoe for log-normal "
    "scales (guides.group_horseshoe)"
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


def registered_kl(name: str, q: Distribution, p: Distribution) -> Tensor:
    """``kl_divergence(q, p)``, of any shape, in nats.

    Raises:
        NotImplementedError: if none is registered, naming the site, both types and what to do.
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError as error:
        types = (type(base_distribution(distribution)).__name__ for distribution in (q, p))
        detail = f" ({error})" if str(error) and not str(error).startswith("No KL") else ""
        raise NotImplementedError(
            f"AnalyticELBO: site {name!r} has no registered KL({' || '.join(types)}){detail}. Choose a prior "
            "that fits the scheme, register a KL with torch.distributions.register_kl or, if the posterior has a "
            "density over weights and the prior is proper, ask for a sampled one by name: MonteCarloKL(prior)"
        ) from None
