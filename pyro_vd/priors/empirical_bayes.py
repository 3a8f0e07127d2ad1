"""The hierarchical prior w ~ N(0, gamma) with gamma optimized out, per weight or shared."""

import torch
from torch import Tensor

from pyro_vd.priors._improper import ImproperPrior, UndefinedLogProb
from pyro_vd.priors.sharing import Share, check_share

__all__ = ["EmpiricalBayes"]


class EmpiricalBayes(ImproperPrior):
    r"""Zero-mean Gaussian whose variance gamma is set to the value that minimizes the KL.

    With a gamma of its own for every weight the optimum is :math:`\gamma^* = \theta^2 + \sigma^2` and

    .. math:: \mathrm{KL} = \tfrac12 \log(1 + 1/\alpha),

    which is both hierarchical variational dropout (Liu et al. 2019, https://arxiv.org/abs/1811.07533) and automatic
    relevance determination (Kharitonov et al. 2018, https://arxiv.org/abs/1811.00596). A shared gamma is another prior,
    not scale-free: its optimum is the mean of :math:`\theta^2 + \sigma^2` over the weights that share it, and the
    KL of each is :math:`\tfrac12 (\log\gamma^* - \log\sigma^2)`. gamma depends on the posterior, so the prior has no
    density of its own: ``log_prob`` returns an :class:`UndefinedLogProb`, which an analytic-KL objective does not use
    and which raises in a Monte Carlo objective.

    Args:
        share: one gamma per ``"weight"``, per input ``"unit"`` or channel, or per ``"layer"``.
        dim: which dimension of the weight counts the units: 1 for linear and convolution layers, 0 for transposed ones.

    Raises:
        UserError: for another share, and for a ``dim`` that is not a whole number.

    Example:
        >>> import torch
        >>> from pyro_vd.posteriors import WeightNormal
        >>> q = WeightNormal(torch.tensor(1.0), log_alpha=torch.tensor(0.0))
        >>> torch.distributions.kl_divergence(q, EmpiricalBayes())
        tensor(0.3466)
    """

    why_no_samples = "its variance depends on the posterior"

    def __init__(
        self,
        share: Share = "weight",
        dim: int = 1,
        batch_shape: torch.Size = torch.Size(),
        validate_args: bool | None = None,
    ):
        check_share("EmpiricalBayes", share, dim)
        self.share = share
        self.dim = dim
        super().__init__(batch_shape, validate_args)

    def log_prob(self, value: Tensor) -> UndefinedLogProb:
        return UndefinedLogProb("EmpiricalBayes", value.shape)
