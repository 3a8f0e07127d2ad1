"""One multiplicative noise variable per input unit or channel: the base of dropout and group scales, and dropout."""

from typing import Any, Self

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution, constraints

from pyro_vd.errors import UserError
from pyro_vd.priors._improper import UndefinedLogProb

__all__ = ["InputNoise", "MultiplicativeNoise"]


class MultiplicativeNoise(TorchDistribution):
    """A weight whose columns, those of one input unit or channel, are multiplied by a random variable of their own.

    Multiplying column j of the weight is multiplying input j. So under ``local_reparam`` every example draws its own
    factors for its inputs, one per input unit or channel, the same at all positions. Without it, a draw is one set of
    factors for all examples. The weights have no density, or none in closed form: ``log_prob`` returns an
    :class:`~pyro_vd.priors.UndefinedLogProb`.

    Args:
        theta: means of what is multiplied, any shape of two dimensions or more.
        noise: distribution of the factors, of batch shape (units,). If there are k times as many inputs, each factor
            multiplies k neighboring inputs, the positions of one channel after flattening.
        dim: which dimension of theta counts inputs: 1 for linear and convolution layers, 0 for transposed ones.

    Raises:
        UserError: for other shapes, or a number of inputs that is not a multiple of the units.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real
    has_rsample = True

    def __init__(self, theta: Tensor, noise: Distribution, dim: int = 1):
        name = type(self).__name__
        if theta.ndim < 2 or len(noise.batch_shape) != 1:
            raise UserError(
                f"{name} takes a weight of two dimensions or more and noise of shape (units,), not "
                f"{tuple(theta.shape)} and {tuple(noise.batch_shape)}"
            )
        (units,) = noise.batch_shape
        if theta.shape[dim] % units:
            raise UserError(f"{name}: {theta.shape[dim]} inputs are not a multiple of {units} noise variables")
        self.theta, self.noise, self.dim = theta, noise, dim % theta.ndim
        super().__init__(theta.shape, validate_args=False)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.theta.shape[self.dim]

    @property
    def mean(self) -> Tensor:
        return self.theta * self.on_weights(self.noise.mean)

    @property
    def log_alpha(self) -> Tensor:
        """log_alpha of each weight's factor, shape of theta; AttributeError if the noise has none."""
        log_alpha: Tensor = getattr(self.noise, "log_alpha")  # noqa: B009 (not an attribute of every Distribution)
        return self.on_weights(log_alpha).expand(self.theta.shape)

    def log_prob(self, value: Tensor) -> UndefinedLogProb:
        return UndefinedLogProb(type(self).__name__, value.shape)

    def on_inputs(self, values: Tensor) -> Tensor:
        """(..., units) -> (..., inputs): a number for every noise variable becomes one for every input."""
        return values.repeat_interleave(self.inputs // values.shape[-1], dim=-1)

    def on_weights(self, values: Tensor) -> Tensor:
        """(..., units) -> (..., 1, inputs, 1, ...), which broadcasts over theta."""
        before, after = self.dim, self.theta.ndim - self.dim - 1
        return self.on_inputs(values).reshape(*values.shape[:-1], *[1] * before, self.inputs, *[1] * after)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Self:
        if torch.Size(batch_shape) != self.batch_shape:
            raise NotImplementedError(
                f"{type(self).__name__} is a posterior over one whole weight and does not expand; draw one by one "
                "(Predictive: parallel=False; ELBO: vectorize_particles=False)"
            )
        return self


class InputNoise(MultiplicativeNoise):
    r"""Correlated weight noise, type A: every weight that leaves input j is multiplied by the same :math:`\xi_j`.

    .. math:: w_{oj} = \theta_{oj} \, \xi_j, \qquad \xi_j \sim q(\xi_j)

    This is dropout of the inputs (Kingma et al. 2015, section 3.2). The weights lie on a space of as many dimensions
    as there are noise variables, so they have no density, and their KL to a prior over weights is infinite (Hron et al.
    2018). The registered KLs are those of the noise variables to the same prior over them: finite, one per variable.

    Args and errors are those of :class:`MultiplicativeNoise`.

    Example:
        >>> import torch
        >>> from pyro_vd.posteriors import ScaledBernoulli
        >>> draw = InputNoise(torch.ones(2, 4), ScaledBernoulli(torch.full((4,), 0.5))).rsample()
        >>> bool((draw[0] == draw[1]).all()), set(draw.unique().tolist()) <= {0.0, 2.0}
        (True, True)
    """

    @property
    def variance(self) -> Tensor:
        return self.theta.square() * self.on_weights(self.noise.variance)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.theta * self.on_weights(self.noise.rsample(sample_shape))
