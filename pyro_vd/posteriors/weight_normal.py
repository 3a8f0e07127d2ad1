"""The factorised Gaussian posterior over weights, q(w) = N(theta, sigma^2) with sigma^2 = alpha theta^2."""

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

__all__ = ["WeightNormal"]

LOG_2PI = 1.8378770664093453


class WeightNormal(TorchDistribution):
    r"""Independent Gaussian noise on every weight, in either of the literature's two parametrizations.

    .. math:: q(w) = \mathcal N(\theta, \sigma^2), \qquad
              \log\alpha = \log\sigma^2 - 2\log|\theta|

    Give exactly one of ``log_sigma2`` (additive, Molchanov et al. 2017, section 4.1) and ``log_alpha``
    (multiplicative, Kingma et al. 2015, section 3). ``theta = 0`` is an ordinary point of the first. In the second it
    is a point mass: the scale-free KLs stay finite there, while ``log_prob`` and the KL to a Normal refuse it when
    validation is on.

    Args:
        theta: means, any shape.
        log_sigma2: log variances, broadcastable with theta.
        log_alpha: log of the ratio variance / theta^2, broadcastable with theta.

    Raises:
        ValueError: when neither or both of ``log_sigma2`` and ``log_alpha`` are given.

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
        if (log_sigma2 is None) == (log_alpha is None):
            raise ValueError("WeightNormal takes exactly one of log_sigma2 and log_alpha")
        self._rate_name = "log_sigma2" if log_alpha is None else "log_alpha"
        rate = log_sigma2 if log_sigma2 is not None else log_alpha
        self.theta, self._rate = broadcast_all(theta, rate)  # type: ignore[arg-type]
        validate = TorchDistribution._validate_args if validate_args is None else validate_args
        super().__init__(self.theta.shape, validate_args=False)  # Pyro's check would ask for the derived rate too
        self._validate_args = validate
        if validate:
            self._check_finite()

    def check_not_a_point_mass(self) -> None:
        """Refuses theta = 0 in the log_alpha form when validation is on: there is no density there.

        Raises:
            ValueError: where a mean is exactly 0.
        """
        if self._validate_args and self.multiplicative and (self.theta == 0).any():
            raise ValueError(
                "WeightNormal: theta is 0 somewhere, and with log_alpha that is a point mass without a density; "
                "use log_sigma2, or start theta away from 0"
            )

    def _check_finite(self) -> None:
        for name, value in (("theta", self.theta), (self._rate_name, self._rate)):
            if value.isnan().any():
                raise ValueError(f"WeightNormal: {name} holds NaN")

    @property
    def multiplicative(self) -> bool:
        """Whether it was given by log_alpha, so that its standard deviation follows theta."""
        return self._rate_name == "log_alpha"

    @property
    def log_sigma2(self) -> Tensor:
        """log variance, shape of theta."""
        if self._rate_name == "log_sigma2":
            return self._rate
        return self._rate + 2 * self.theta.abs().log()

    @property
    def log_alpha(self) -> Tensor:
        """log(variance / theta^2), shape of theta; +inf where theta is 0. For masks and reports, not for training."""
        if self.multiplicative:
            return self._rate
        return self._rate - 2 * self.theta.abs().log()

    @property
    def inverse_alpha(self) -> Tensor:
        """1 / alpha = theta^2 / variance, shape of theta: what every scale-free KL is a function of."""
        inverse_rate = (-self._rate).exp()
        return inverse_rate if self.multiplicative else self.theta.square() * inverse_rate

    @property
    def mean(self) -> Tensor:
        return self.theta

    @property
    def variance(self) -> Tensor:
        if self.multiplicative:
            return self._rate.exp() * self.theta.square()
        return self._rate.exp()

    @property
    def stddev(self) -> Tensor:
        half = (0.5 * self._rate).exp()
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

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(WeightNormal, _instance)
        new._rate_name = self._rate_name
        new.theta = self.theta.expand(batch_shape)
        new._rate = self._rate.expand(batch_shape)
        super(WeightNormal, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new
