"""A random scale per input unit times Gaussian weights: the posterior of group priors."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_vd.posteriors.input_noise import MultiplicativeNoise
from pyro_vd.posteriors.weight_normal import WeightNormal

__all__ = ["GroupScale"]


class GroupScale(MultiplicativeNoise):
    r"""Weights with a scale shared by all that leave input j (Louizos, Ullrich and Welling 2017, section 3).

    .. math:: w_{oj} = z_j \, \tilde w_{oj}, \qquad z_j \sim q(z_j), \quad \tilde w_{oj} \sim N(\theta, \sigma^2)

    The non-centered form of w | z ~ N(z theta, z^2 sigma^2). Its KL is the joint one over scales and weights. The
    density of w alone has no closed form, so ``log_prob`` returns an :class:`~pyro_vd.priors.UndefinedLogProb`.

    Args:
        weight: posterior of the weights before scaling.
        scale: distribution of the scales, of batch shape (units,), one per input unit or channel.
        dim: which dimension of the weight counts inputs.

    Example:
        >>> scale = WeightNormal(torch.ones(3), log_sigma2=torch.full((3,), -9.0))
        >>> GroupScale(WeightNormal(torch.ones(2, 3), log_sigma2=torch.full((2, 3), -9.0)), scale).mean.shape
        torch.Size([2, 3])
    """

    def __init__(self, weight: WeightNormal, scale: Distribution, dim: int = 1):
        self.weight = weight
        super().__init__(weight.theta, scale, dim)

    @property
    def variance(self) -> Tensor:
        # Not E[z^2] E[w^2] - (E[z] E[w])^2, which loses small variances to rounding.
        second_moment = self.weight.variance + self.theta.square()
        spread = self.on_weights(self.noise.variance) * second_moment
        return spread + self.on_weights(self.noise.mean.square()) * self.weight.variance

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.weight.rsample(sample_shape) * self.on_weights(self.noise.rsample(sample_shape))
