"""MonteCarloKL: a prior whose KL is sampled, from one weight draw that serves nothing else."""

from __future__ import annotations

import copy
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution, constraints

from pyro_vd.priors._improper import ImproperPrior

__all__ = ["MonteCarloKL"]

TEST_WEIGHT = -1234.5  # outside the support of priors over positive, bounded or whole numbers


class MonteCarloKL(TorchDistribution):
    r"""The prior ``prior``, with the cross-entropy part of its KL estimated from one draw of the weights.

    .. math:: \mathrm{KL}(q \,\|\, p) \approx -\mathcal H(q) - \log p(w), \qquad w \sim q

    The entropy is exact and the estimate unbiased. The draw is used for the KL only: under ``local_reparam`` the
    likelihood still samples activations. A sampled KL must be asked for by this name, because it is noisier than a
    closed form and costs a draw of every weight per step (Blundell et al. 2015, section 3.2, sample both parts).

    Args:
        prior: of one weight, with a density: StudentT, Horseshoe, a mixture, any of Pyro's or torch's.

    Raises:
        TypeError: for anything but a distribution over the real line, or an improper prior: LogUniform has closed forms
            (and the gradient of a sampled log|w| has no mean), EmpiricalBayes has no density, under Flat there is
            nothing to sample.

    Example:
        >>> import pyro.distributions as dist
        >>> from pyro_vd.posteriors import WeightNormal
        >>> q = WeightNormal(torch.tensor(0.0), log_sigma2=torch.tensor(-20.0))
        >>> torch.distributions.kl_divergence(q, MonteCarloKL(dist.StudentT(3.0, 0.0, 0.1))).round(decimals=2)
        tensor(7.2800)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, prior: Distribution):
        if not isinstance(prior, Distribution) or isinstance(prior, ImproperPrior | MonteCarloKL):
            what = type(prior).__name__ if isinstance(prior, Distribution) else repr(prior)
            raise TypeError(
                f"MonteCarloKL({what}): give an instance of a proper prior, such as StudentT(3.0, 0.0, 0.1)"
            )
        if prior.support is None or not bool(prior.support.check(torch.tensor(TEST_WEIGHT)).all()):
            raise TypeError(
                f"MonteCarloKL({type(prior).__name__}): the support of a prior over weights must be the whole real line"
            )
        self.prior = _unvalidated(prior)
        super().__init__(prior.batch_shape, prior.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:
        return self.prior.support

    @property
    def mean(self) -> Tensor:
        return self.prior.mean

    @property
    def variance(self) -> Tensor:
        return self.prior.variance

    @property
    def has_rsample(self) -> bool:
        return self.prior.has_rsample

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.prior.sample(sample_shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        return self.prior.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.prior.log_prob(value)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> MonteCarloKL:
        return MonteCarloKL(self.prior.expand(batch_shape))


def _unvalidated(prior: Distribution) -> Distribution:
    """A copy without validation, in its parts too: a traced step cannot look at values."""
    prior = copy.copy(prior)
    prior._validate_args = False
    for name, part in vars(prior).items():
        if isinstance(part, Distribution):
            setattr(prior, name, _unvalidated(part))
    return prior
