"""The normal-Jeffreys prior on scales that groups of weights share: for GroupScale posteriors."""

from pyro_vd.priors._improper import NoisePrior

__all__ = ["GroupNormalJeffreys"]


class GroupNormalJeffreys(NoisePrior):
    r""":math:`p(z) \propto 1/|z|` for every group, N(0, 1) for its weights before scaling (Louizos et al. 2017, 3.1).

    The KL is Molchanov's fit for every scale and the Gaussian one for every weight.
    """

    prior_of = "scales that weights share"
