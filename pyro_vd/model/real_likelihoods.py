"""Likelihoods of real targets: normal noise, normal noise that depends on the input, and noise with heavy tails."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vd.errors import UserError
from pyro_vd.model.positive_number import check_positive, describe_number, known_or_learned, read_number

__all__ = ["Gaussian", "HeteroscedasticGaussian", "StudentT"]


class _Noise(nn.Module):
    """Noise of one scale, known or learned, in the units of the targets."""

    def __init__(self, scale: float | None, learn_scale: bool):
        super().__init__()
        self.known_scale, self.log_scale = known_or_learned(type(self).__name__, "scale", scale, learn_scale)

    @property
    def scale(self) -> float | Tensor:
        """The scale of the noise; a 0-dim tensor if it is learned."""
        return read_number(self.known_scale, self.log_scale)

    def extra_repr(self) -> str:
        return describe_number("scale", self.scale, self.log_scale is not None)


class Gaussian(_Noise):
    """Normal distribution of real targets around the network's output, with one standard deviation for all.

    Args:
        scale: standard deviation, finite and above 0, in the units of the targets. If it is learned, this is its first
            value, 1 by default.
        learn_scale: whether the standard deviation is learned with the network. The module then has the parameter
            ``log_scale``, 0-dim. It is a point estimate and has no prior.

    Raises:
        UserError: for another scale, and without a scale unless it is learned.

    Example:
        >>> import torch
        >>> Gaussian(0.5)(torch.zeros(3)).log_prob(torch.zeros(3))
        tensor([-0.2258, -0.2258, -0.2258])
        >>> Gaussian(learn_scale=True).log_scale.item()
        0.0
    """

    def __init__(self, scale: float | None = None, learn_scale: bool = False):
        super().__init__(scale, learn_scale)

    def forward(self, mean: Tensor) -> dist.Normal:
        """The distribution of targets of the shape of ``mean``."""
        return dist.Normal(mean, self.scale)


class StudentT(_Noise):
    """Student's t distribution of real targets around the network's output: few outliers do not move the fit.

    Args:
        df: degrees of freedom, finite and above 0. Tails are heavier for a smaller number; the variance is infinite
            for df <= 2.
        scale: scale of the noise, finite and above 0, in the units of the targets. If it is learned, this is its first
            value, 1 by default. The standard deviation is ``scale * sqrt(df / (df - 2))``.
        learn_scale: whether the scale is learned with the network, as the parameter ``log_scale``, 0-dim.

    Raises:
        UserError: for another df or scale, and without a scale unless it is learned.

    Example:
        >>> import torch
        >>> StudentT(df=1.0, scale=2.0)(torch.zeros(1)).log_prob(torch.zeros(1))  # log(1 / (2 pi))
        tensor([-1.8379])
    """

    def __init__(self, df: float = 4.0, scale: float | None = None, learn_scale: bool = False):
        super().__init__(scale, learn_scale)
        self.df = check_positive("StudentT", "df", df)

    def forward(self, mean: Tensor) -> dist.StudentT:
        """The distribution of targets of the shape of ``mean``."""
        return dist.StudentT(self.df, mean, self.scale)

    def extra_repr(self) -> str:
        return f"df={self.df:.4g}, {super().extra_repr()}"


class HeteroscedasticGaussian(nn.Module):
    """Normal distribution of real targets, with a standard deviation that depends on the input (Nix and Weigend 1994).

    For targets (..., d), the network's output is (..., 2d): d means, then d values of log_scale. The standard deviation
    is ``min_scale + exp(log_scale)``.

    Args:
        min_scale: smallest standard deviation, finite and above 0, in the units of the targets. Without it, one exactly
            fitted target would drive its scale to 0. The default fits targets with a variance of about 1.

    Raises:
        UserError: for another min_scale, and later for an output whose last axis is not even.

    Example:
        >>> import torch
        >>> target = HeteroscedasticGaussian()(torch.zeros(5, 2))
        >>> target.mean.shape, round(target.stddev[0].item(), 4)
        (torch.Size([5, 1]), 1.001)
    """

    def __init__(self, min_scale: float = 1e-3):
        super().__init__()
        self.min_scale = check_positive("HeteroscedasticGaussian", "min_scale", min_scale)

    def forward(self, output: Tensor) -> dist.Normal:
        """The distribution of targets (..., d) for an output (..., 2d)."""
        if not output.ndim or output.shape[-1] % 2 or not output.shape[-1]:
            raise UserError(
                f"HeteroscedasticGaussian: the network's output has shape {tuple(output.shape)}, but its last axis "
                "must hold a mean and a log_scale for every target, which is an even number; double the outputs of the "
                "last layer"
            )
        mean, log_scale = output.chunk(2, dim=-1)
        return dist.Normal(mean, self.min_scale + log_scale.exp())

    def extra_repr(self) -> str:
        return f"min_scale={self.min_scale:.4g}"
