"""The factorized Gaussian posterior over weights, q(w) = N(theta, sigma^2) with sigma^2 = alpha theta^2."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from pyro_vd.errors import UserError

__all__ = ["WeightNormal"]

LOG_2PI = 1.8378770664093453


class WeightNormal(TorchDistribution):
    r"""Independent Gaussian noise on every weight, in either of the literature's two parametrizations.

    .. math:: q(w) = \mathcal N(\theta, \sigma^2), \qquad
              \log\alpha = \log\sigma^2 - 2\log|\theta|

    Give exactly one of ``log_sigma2`` (additive, Molchanov et al. 2017, section 4.1) and ``log_alpha``
    (multiplicative, Kingma et al. 2015, section 3). ``theta = 0`` is an ordinary point of the first. In the second it
    is a point mass: the scale-free KLs are finite there, and ``log_prob`` and the KL to a Normal refuse it if
    validation is on.

    Args:
        theta: means, any shape.
        log_sigma2: log variances, broadcastable with theta.
        log_alpha: log of the ratio variance / theta^2, broadcastable with theta.

    Raises:
        UserError: if neither or both of ``log_sigma2`` and ``log_alpha`` are given.

    References:
        Variational Dropout Sparsifies Deep Neural Networks (Molchanov, Ashukha, Vetrov, 2017),
        https://arxiv.org/abs/1701.05369

    Example:
        >>> import torch
        >>> q = WeightNormal(torch.tensor([1.0, 0.0]), log_sigma2=torch.tensor([-2.0, -2.0]))
        >>> q.variance
        tensor([0.1353, 0.1353])
        >>> q.log_alpha
        tensor([-2., inf])
    """

    arg_constraints = {
        "theta": constraints.real,
        "log_sigma2": constraints.real,
        "log_alpha": constraints.real,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        theta: Tensor,
        log_sigma2: Tensor | None = None,
        log_alpha: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        given = [param for param in (log_sigma2, log_alpha) if param is not None]
        if len(given) != 1:
            raise UserError("WeightNormal takes exactly one of log_sigma2 and log_alpha")
        self._noise_name = "log_sigma2" if log_alpha is None else "log_alpha"
        self.theta, self._noise_param = broadcast_all(theta, given[0])
        validate = TorchDistribution._validate_args if validate_args is None else validate_args
        super().__init__(self.theta.shape, validate_args=False)  # Pyro's check would read the derived parameter too
        self._validate_args = validate
        if validate:
            self._check_finite()

    def check_not_a_point_mass(self) -> None:
        """Refuses theta = 0 in the log_alpha form if validation is on: a point mass has no density.

        Raises:
            UserError: if a mean is exactly 0.
        """
        if self._validate_args and self.multiplicative and (self.theta == 0).any():
            raise UserError(
                "WeightNormal: an entry of theta is 0, which with log_alpha is a point mass without a density; use "
                "log_sigma2, or start theta away from 0"
            )

    def _check_finite(self) -> None:
        for name, value in (("theta", self.theta), (self._noise_name, self._noise_param)):
            if value.isnan().any():
                raise UserError(f"WeightNormal: {name} holds NaN")

    @property
    def multiplicative(self) -> bool:
        """Whether log_alpha was given, so that the standard deviation is proportional to theta."""
        return self._noise_name == "log_alpha"

    @property
    def log_sigma2(self) -> Tensor:
        """log variance, shape of theta."""
        if self._noise_name == "log_sigma2":
            return self._noise_param
        return self._noise_param + 2 * self.theta.abs().log()

    @property
    def log_alpha(self) -> Tensor:
        """log(variance / theta^2), shape of theta; +inf where theta is 0. For masks and reports, not for training."""
        if self.multiplicative:
            return self._noise_param
        return self._noise_param - 2 * self.theta.abs().log()

    @property
    def inverse_alpha(self) -> Tensor:
        """1 / alpha = theta^2 / variance, shape of theta: what every scale-free KL is a function of."""
        inverse = (-self._noise_param).exp()
        return inverse if self.multiplicative else self.theta.square() * inverse

    @property
    def mean(self) -> Tensor:
        return self.theta

    @property
    def variance(self) -> Tensor:
        if self.multiplicative:
            return self._noise_param.exp() * self.theta.square()
        return self._noise_param.exp()

    @property
    def stddev(self) -> Tensor:
        half = (0.5 * self._noise_param).exp()
        return half * self.theta.abs() if self.multiplicative else half

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.theta.dtype, device=self.theta.device)
        return self.theta + self.stddev * noise

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
            self.check_not_a_point_mass()
        return -0.5 * ((value - self.theta).square() / self.variance + self.log_sigma2 + LOG_2PI)

    def entropy(self) -> Tensor:
        return 0.5 * (1 + LOG_2PI + self.log_sigma2)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> WeightNormal:
        new: WeightNormal = self._get_checked_instance(WeightNormal, _instance)
        new._noise_name = self._noise_name
        new.theta = self.theta.expand(batch_shape)
        new._noise_param = self._noise_param.expand(batch_shape)
        super(WeightNormal, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new
