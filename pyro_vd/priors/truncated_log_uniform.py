"""The log-uniform prior on bounded noise, which is proper (Neklyudov et al. 2017)."""

from pyro_vd.priors._improper import NoisePrior

__all__ = ["TruncatedLogUniform"]

LOWER, UPPER = -20.0, 0.0  # of log xi


class TruncatedLogUniform(NoisePrior):
    """p(xi) proportional to 1/xi on [exp(-20), 1]: the log-uniform prior, proper because it is bounded.

    It is a prior on the noise of :class:`TruncatedLogNormal`.
    """

    prior_of = "noise variables"
